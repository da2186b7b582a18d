//! A TCP proxy in front of a server, to stall or to cut its connections.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
    word: Option<&'static str>,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    /// To the server of this URL.
    pub fn to(url: &str) -> Proxy {
        Proxy::start(url, None)
    }

    /// Only connections whose client says this word are ever stalled or cut.
    pub fn of(word: &'static str, url: &str) -> Proxy {
        Proxy::start(url, Some(word))
    }

    fn start(url: &str, word: Option<&'static str>) -> Proxy {
        let url = url::Url::parse(url).expect("the URL of a server");
        let host = url.host_str().expect("the host of a server").to_owned();
        let port = url.port().unwrap_or(if url.scheme() == "amqp" { 5672 } else { 5432 });
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("an address");
        let (mode, watching) = watch::channel(Mode::Forward);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(serve(listener, (host, port), word, watching));
        });
        Proxy { address, word, mode }
    }

    /// The URL of the server by way of the proxy.
    pub fn url(&self, url: &str) -> String {
        let mut url = url::Url::parse(url).expect("the URL of a server");
        url.set_host(Some("127.0.0.1")).expect("a host");
        url.set_port(Some(self.address.port())).expect("a port");
        if self.word.is_some() {
            // A word cannot be heard through TLS.
            url.query_pairs_mut().append_pair("sslmode", "disable");
        }
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

async fn serve(
    listener: std::net::TcpListener,
    server: (String, u16),
    word: Option<&'static str>,
    mode: watch::Receiver<Mode>,
) {
    let mut dropped = mode.clone();
    let listener = TcpListener::from_std(listener).expect("a listener");
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(connect(client, server.clone(), Meant::new(word), mode.clone()));
                }
            }
            // An error: the proxy was dropped.
            _ = dropped.wait_for(|_| false) => return,
        }
    }
}

/// Whether the proxy's mode is meant for this connection.
#[derive(Clone)]
struct Meant {
    word: Option<&'static str>,
    said: Arc<AtomicBool>,
}

impl Meant {
    fn new(word: Option<&'static str>) -> Meant {
        Meant { word, said: Arc::new(AtomicBool::new(word.is_none())) }
    }

    fn hear(&self, bytes: &[u8]) {
        if self.word.is_some_and(|word| bytes.windows(word.len()).any(|part| part == word.as_bytes())) {
            self.said.store(true, Ordering::Relaxed);
        }
    }

    fn is(&self, mode: Mode) -> Mode {
        if self.said.load(Ordering::Relaxed) { mode } else { Mode::Forward }
    }
}

async fn connect(client: TcpStream, server: (String, u16), meant: Meant, mode: watch::Receiver<Mode>) {
    if meant.is(*mode.borrow()) == Mode::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut cut = mode.clone();
    tokio::select! {
        () = pump(from_client, to_server, |bytes| meant.hear(bytes), &meant, mode.clone(), &[Mode::Forward, Mode::Mute]) => {}
        () = pump(from_server, to_client, |_| {}, &meant, mode, &[Mode::Forward]) => {}
        _ = cut.wait_for(|mode| meant.is(*mode) == Mode::Cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    hear: impl Fn(&[u8]),
    meant: &Meant,
    mut mode: watch::Receiver<Mode>,
    passes: &[Mode],
) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        hear(&buffer[..count]);
        let forward = mode.wait_for(|mode| passes.contains(&meant.is(*mode))).await.is_ok();
        if !forward || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
