//! Servers on 127.0.0.1 that behave as a test's script says, and a client that may talk to them.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use uuid::Uuid;

use super::client::{Client, Exchange, Options, Request};
use super::own_tls::OwnTls;

pub(super) struct Server {
    pub addr: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    /// Runs the script for each connection.
    pub async fn start<F, Fut>(script: F) -> Server
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Server::start_at("127.0.0.1:0", script).await
    }

    /// The same at an address of one's choice.
    pub async fn start_at<F, Fut>(address: impl ToSocketAddrs, script: F) -> Server
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let addr = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(script(stream));
            }
        });
        Server { addr, accepted }
    }

    /// Answers every request of every connection with these bytes.
    pub async fn answering(response: impl Into<Vec<u8>>) -> Server {
        let response = Arc::new(response.into());
        Server::start(move |mut stream| {
            let response = response.clone();
            async move {
                while read_request(&mut stream).await.is_some() {
                    stream.write_all(&response).await.unwrap();
                }
            }
        })
        .await
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.addr)
    }

    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}

/// The head and the body of one request, as they came; `None` when the connection ended before it.
pub(super) async fn read_request(stream: &mut TcpStream) -> Option<(String, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
            let length: usize = length.parse().unwrap();
            let mut body = bytes.split_off(end + 4);
            let have = body.len();
            body.resize(length, 0);
            stream.read_exact(&mut body[have..]).await.ok()?;
            return Some((head, body));
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

pub(super) fn options() -> Options {
    Options {
        connect_timeout: Duration::from_secs(5),
        allow_cidrs: vec!["127.0.0.0/8".parse().unwrap()],
        proxy: None,
        max_response_bytes: 1024,
        max_idle_per_host: 8,
        max_kept_hosts: 8,
        user_agent: "posthaste/test".into(),
    }
}

pub(super) fn client() -> Client {
    Client::new(options()).unwrap()
}

pub(super) async fn post(client: &Client, url: &str, timeout: Duration) -> Exchange {
    let body = Bytes::from_static(b"{}");
    client.deliver(Request { url, headers: vec![], body, timeout, own_tls: None }).await
}

/// For an endpoint with certificates of its own.
pub(super) async fn post_own(client: &Client, url: &str, endpoint: u128, own: &OwnTls) -> Exchange {
    let (body, own_tls) = (Bytes::from_static(b"{}"), Some((Uuid::from_u128(endpoint), own)));
    client.deliver(Request { url, headers: vec![], body, timeout: AMPLE, own_tls }).await
}

/// A deadline that is not expected to strike.
pub(super) const AMPLE: Duration = Duration::from_secs(20);
/// A deadline that is expected to strike.
pub(super) const SHORT: Duration = Duration::from_millis(300);
