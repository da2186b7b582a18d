//! A TCP proxy in front of a server, to stall or to cut its connections.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Forward,
    /// Connections stay open and nothing comes through, like a network that swallows packets.
    Stall,
    /// What clients say comes through, the server's answers do not.
    Mute,
    /// Connections are closed, new ones too.
    Cut,
}

/// Runs in a thread of its own until it is dropped.
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// To the server of this URL.
    pub fn to(url: &str) -> Proxy {
        let url = url::Url::parse(url).expect("the URL of a server");
        let host = url.host_str().expect("the host of a server").to_owned();
        let port = url.port().unwrap_or(if url.scheme() == "amqp" { 5672 } else { 5432 });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("an address");
        let (mode, watching) = watch::channel(Mode::Forward);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, (host, port), watching));
        });
        Proxy { address, mode }
    }

    /// The URL of the server by way of the proxy.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).expect("the URL of a server");
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(Some(self.address.port())).expect("a port");
        url.into()
    }

    pub fn stall(&self) {
        self.mode.send_replace(Mode::Stall);
    }

    pub fn mute(&self) {
        self.mode.send_replace(Mode::Mute);
    }

    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    pub fn forward(&self) {
        self.mode.send_replace(Mode::Forward);
    }
}

async fn serve(listener: std::net::TcpListener, server: (String, u16), mode: watch::Receiver<Mode>) {
    let mut dropped = mode.clone();
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(connect(client, server.clone(), mode.clone()));
                }
            }
            // An error: the proxy was dropped.
            _ = dropped.wait_for(|_| false) => return,
        }
    }
}

async fn connect(client: TcpStream, server: (String, u16), mode: watch::Receiver<Mode>) {
    if *mode.borrow() == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = mode.clone();
    tokio::select! {
        () = pump(from_client, to_server, mode.clone(), &[Mode::Forward, Mode::Mute]) => {}
        () = pump(from_server, to_client, mode, &[Mode::Forward]) => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut mode: watch::Receiver<Mode>, passes: &[Mode]) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        let passed = mode.wait_for(|mode| passes.contains(mode)).await.is_ok();
        if !passed || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
