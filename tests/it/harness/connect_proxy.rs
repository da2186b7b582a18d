//! A proxy that opens tunnels when it is asked to with CONNECT, or refuses, as a test says.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{PATIENCE, in_a_thread};
use crate::kit::connections::{accept, listener};

pub struct ConnectProxy {
    address: SocketAddr,
    /// What it answers instead of opening a tunnel.
    refusal: watch::Sender<Option<&'static str>>,
    heads: Arc<watch::Sender<Vec<String>>>,
}

impl ConnectProxy {
    pub fn start() -> ConnectProxy {
        let listener = listener();
        let address = listener.local_addr().expect("an address");
        let (refusal, refusing) = watch::channel(None);
        let heads = Arc::new(watch::channel(Vec::new()).0);
        let seen = heads.clone();
        in_a_thread(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            let mut dropped = refusing.clone();
            tokio::select! {
                () = accept(listener, |client| serve(client, seen.clone(), refusing.clone())) => {}
                // An error: the proxy was dropped.
                _ = dropped.wait_for(|_| false) => {}
            }
        });
        ConnectProxy { address, refusal, heads }
    }

    pub fn url(&self, login: &str) -> String {
        format!("http://{login}{}", self.address)
    }

    /// From now on it answers with this status, or opens tunnels again.
    pub fn refuse(&self, with: Option<&'static str>) {
        self.refusal.send_replace(with);
    }

    /// Every head so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.borrow().clone()
    }

    /// Waits until it was asked so often.
    pub async fn asked(&self, count: usize) -> Vec<String> {
        let mut heads = self.heads.subscribe();
        let waiting = heads.wait_for(|heads| heads.len() >= count);
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(heads)) => heads.clone(),
            _ => panic!("the proxy was never asked {count} times"),
        }
    }
}

async fn serve(
    mut client: TcpStream,
    heads: Arc<watch::Sender<Vec<String>>>,
    refusing: watch::Receiver<Option<&'static str>>,
) {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        if client.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    heads.send_modify(|heads| heads.push(head));
    let refusal = *refusing.borrow();
    if let Some(status) = refusal {
        let _ = client.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    if client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.is_ok() {
        let _ = copy_bidirectional(&mut client, &mut server).await;
    }
}
