//! A TCP proxy in front of a server: it holds up or cuts connections, and lets somebody listen to what is said.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use url::Url;

use super::connections::{accept, listener};

const BUFFER: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Forward,
    /// Connections stay open and nothing comes through, their ends neither. What was said meanwhile arrives afterwards, as
    /// it does when a network that lost packets is back.
    Swallow,
    /// Connections are closed, new ones too.
    Cut,
}

/// What goes on to the client in place of what the server has sent; or the end of the connection.
pub type Passed<'a> = ControlFlow<(), Cow<'a, [u8]>>;

/// One connection, as somebody looks at it who listens.
pub trait Wire: Send + Sync + 'static {
    /// Whether the proxy's mode is meant for it.
    fn is_meant(&self) -> bool {
        true
    }

    /// Bytes on their way to the server.
    fn asked(&self, bytes: &[u8]);

    /// Bytes that the server has sent.
    fn answered<'a>(&self, bytes: &'a [u8]) -> Passed<'a>;

    /// It was cut or refused, or data was held up.
    fn disturbed(&self) {}
}

/// The servers behind a proxy, which may become others: each connection goes to the next one that takes it, as a simple load
/// balancer does.
#[derive(Clone, Default)]
pub struct Servers(Arc<Mutex<Vec<(String, u16)>>>);

impl Servers {
    pub fn of(urls: &[&str]) -> Servers {
        let servers = Servers::default();
        servers.set(urls);
        servers
    }

    /// For connections that are made from now on.
    pub fn set(&self, urls: &[&str]) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = urls.iter().map(|url| place(url)).collect();
    }

    /// All of them, beginning with another one each time.
    fn in_turn(&self) -> Vec<(String, u16)> {
        let mut servers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        servers.rotate_left(1);
        servers.clone()
    }

    async fn connect(&self) -> Option<TcpStream> {
        for server in self.in_turn() {
            if let Ok(stream) = TcpStream::connect(server).await {
                return Some(stream);
            }
        }
        None
    }
}

fn place(url: &str) -> (String, u16) {
    let url = Url::parse(url).expect("the URL of a server");
    let host = url.host_str().expect("the host of a server").to_owned();
    (host, url.port().unwrap_or(if url.scheme() == "amqp" { 5672 } else { 5432 }))
}

/// Serves until it is dropped.
pub struct Proxy {
    port: u16,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// To these servers, and the work of the proxy.
    pub fn to<W, F>(servers: Servers, wire: F) -> (Proxy, impl Future<Output = ()> + Send + use<W, F>)
    where
        W: Wire,
        F: Fn() -> W + Send + Sync + 'static,
    {
        let listener = listener();
        let (mode, watching) = watch::channel(Mode::Forward);
        let proxy = Proxy { port: listener.local_addr().expect("an address").port(), mode };
        (proxy, serve(listener, servers, wire, watching))
    }

    /// The URL of the server by way of the proxy.
    pub fn url(&self, url: &str) -> String {
        by_way_of(self.port, url)
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

/// The URL of a server, at a port of ours.
pub fn by_way_of(port: u16, url: &str) -> String {
    let mut url = Url::parse(url).expect("the URL of a server");
    url.set_host(Some("127.0.0.1")).expect("a host");
    url.set_port(Some(port)).expect("a port");
    url.into()
}

async fn serve<W: Wire>(
    listener: std::net::TcpListener,
    servers: Servers,
    wire: impl Fn() -> W,
    mode: watch::Receiver<Mode>,
) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    let mut dropped = mode.clone();
    tokio::select! {
        () = accept(listener, |client| connect(client, servers.clone(), wire(), mode.clone())) => {}
        // An error: the proxy was dropped.
        _ = dropped.wait_for(|_| false) => {}
    }
}

async fn connect<W: Wire>(client: TcpStream, servers: Servers, wire: W, mut mode: watch::Receiver<Mode>) {
    let now = |mode: Mode| if wire.is_meant() { mode } else { Mode::Forward };
    if now(*mode.borrow()) != Mode::Forward {
        wire.disturbed();
    }
    // A network that swallows everything does not let a connection be made either.
    let made = mode.wait_for(|mode| now(*mode) != Mode::Swallow).await.is_ok_and(|mode| now(*mode) != Mode::Cut);
    if !made {
        return;
    }
    let Some(server) = servers.connect().await else { return };
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = pump(from_client, to_server, &wire, mode.clone(), true) => {}
        () = pump(from_server, to_client, &wire, mode.clone(), false) => {}
        _ = mode.wait_for(|mode| now(*mode) == Mode::Cut) => wire.disturbed(),
    }
}

/// Whatever the network swallows waits until it is whole again.
async fn pump<W: Wire>(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    wire: &W,
    mut mode: watch::Receiver<Mode>,
    to_server: bool,
) {
    let mut buffer = vec![0; BUFFER];
    loop {
        let count = from.read(&mut buffer).await.unwrap_or(0);
        let bytes = &buffer[..count];
        if to_server {
            wire.asked(bytes);
        }
        if count > 0 && wire.is_meant() && *mode.borrow() == Mode::Swallow {
            wire.disturbed();
        }
        let whole = mode.wait_for(|mode| *mode == Mode::Forward || !wire.is_meant()).await.is_ok();
        if count == 0 || !whole {
            return;
        }
        let passed = if to_server { ControlFlow::Continue(Cow::Borrowed(bytes)) } else { wire.answered(bytes) };
        let ControlFlow::Continue(passed) = passed else { return };
        if to.write_all(&passed).await.is_err() {
            return;
        }
    }
}
