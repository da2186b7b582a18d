//! A TCP proxy between one process and one server, to cut their connections or to swallow what they say.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::kind::Server;
use crate::statements::{Listener, Sessions};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Forward,
    /// Connections stay open and nothing comes through. What was said meanwhile arrives afterwards, as it does when a
    /// network that lost packets is back.
    Swallow,
    /// Connections are closed, new ones too.
    Cut,
}

/// Serves until it is dropped.
pub struct Proxy {
    pub port: u16,
    mode: watch::Sender<Mode>,
    disturbed: Arc<AtomicUsize>,
    sessions: Option<Sessions>,
}

/// What a connection needs to know.
#[derive(Clone)]
struct Way {
    mode: watch::Receiver<Mode>,
    /// Connections that were cut or refused, and pieces of data that were held up, since the mode was set.
    disturbed: Arc<AtomicUsize>,
    /// Where what is said is a session with PostgreSQL.
    sessions: Option<Sessions>,
}

impl Way {
    fn disturb(&self) {
        self.disturbed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Proxy {
    /// To this kind of server, at its port.
    pub async fn to(server: Server, port: u16) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own_port = listener.local_addr()?.port();
        let (mode, watching) = watch::channel(Mode::Forward);
        let disturbed = Arc::<AtomicUsize>::default();
        let sessions = (server == Server::Postgres).then(Sessions::default);
        let way = Way { mode: watching, disturbed: disturbed.clone(), sessions: sessions.clone() };
        tokio::spawn(serve(listener, port, way));
        Ok(Proxy { port: own_port, mode, disturbed, sessions })
    }

    pub fn set(&self, mode: Mode) {
        if mode != Mode::Forward {
            self.disturbed.store(0, Ordering::Relaxed);
        }
        self.mode.send_replace(mode);
    }

    /// Whether anybody met the last mode that was not `Forward`.
    pub fn has_disturbed(&self) -> bool {
        self.disturbed.load(Ordering::Relaxed) > 0
    }

    /// Where the server is PostgreSQL.
    pub fn sessions(&self) -> Option<&Sessions> {
        self.sessions.as_ref()
    }
}

async fn serve(listener: TcpListener, server: u16, way: Way) {
    let mut dropped = way.mode.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(connect(client, server, way.clone()));
                }
            }
            // An error: the proxy was dropped.
            _ = dropped.wait_for(|_| false) => return,
        }
    }
}

async fn connect(client: TcpStream, server: u16, way: Way) {
    if *way.mode.borrow() == Mode::Cut {
        way.disturb();
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let listener = way.sessions.as_ref().map(Sessions::listen);
    let mut cut = way.mode.clone();
    tokio::select! {
        () = pump(from_client, to_server, way.clone(), listener) => {}
        () = pump(from_server, to_client, way.clone(), None) => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => way.disturb(),
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: Way, listener: Option<Listener>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if *way.mode.borrow() == Mode::Swallow {
            way.disturb();
        }
        let open = way.mode.wait_for(|mode| *mode == Mode::Forward).await.is_ok();
        if let Some(listener) = &listener {
            listener.heard(&buffer[..count]);
        }
        if !open || to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
