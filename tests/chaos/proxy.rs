//! A TCP proxy between one process and one server: it cuts their connections, swallows what they say, or loses answers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::conversation::{Change, Conversation, Fate};
use crate::kind::Server;
use crate::statements::{Listener, Sessions};

const BUFFER: usize = 64 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Forward,
    /// Connections stay open and nothing comes through, their ends neither. What was said meanwhile arrives afterwards, as
    /// it does when a network that lost packets is back.
    Swallow,
    /// Connections are closed, new ones too.
    Cut,
    /// PostgreSQL carries out every change and commits it; its connection is closed in place of the answer.
    LoseAnswers,
}

/// Serves until it is dropped.
pub struct Proxy {
    pub port: u16,
    mode: watch::Sender<Mode>,
    met: Arc<Met>,
    sessions: Option<Sessions>,
}

/// Who met the last mode that was not `Forward`.
#[derive(Debug, Default)]
struct Met {
    /// Connections that were cut or refused, and pieces of data that were held up.
    disturbed: AtomicUsize,
    claims: AtomicUsize,
    settlements: AtomicUsize,
    other_changes: AtomicUsize,
}

/// Changes whose answers were lost.
#[derive(Debug, Clone, Copy)]
pub struct LostAnswers {
    pub claims: usize,
    pub settlements: usize,
    pub others: usize,
}

/// What a connection needs to know.
#[derive(Clone)]
struct Way {
    server: Server,
    mode: watch::Receiver<Mode>,
    met: Arc<Met>,
    /// Where what is said is a session with PostgreSQL.
    sessions: Option<Sessions>,
}

impl Met {
    fn disturb(&self) {
        self.disturbed.fetch_add(1, Ordering::Relaxed);
    }

    fn lose(&self, change: Change) {
        let count = match change {
            Change::Claim => &self.claims,
            Change::Settlement => &self.settlements,
            Change::Other => &self.other_changes,
        };
        count.fetch_add(1, Ordering::Relaxed);
    }

    /// A claim or a settlement, which come first: the pause after a lost answer to anything else may leave no time for them.
    fn has_lost(&self) -> bool {
        [&self.claims, &self.settlements].iter().any(|count| count.load(Ordering::Relaxed) > 0)
    }

    fn forget(&self) {
        for count in [&self.disturbed, &self.claims, &self.settlements, &self.other_changes] {
            count.store(0, Ordering::Relaxed);
        }
    }
}

impl Proxy {
    /// To this kind of server, at its port.
    pub async fn to(server: Server, port: u16) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let own_port = listener.local_addr()?.port();
        let (mode, watching) = watch::channel(Mode::Forward);
        let met = Arc::<Met>::default();
        let sessions = (server == Server::Postgres).then(Sessions::default);
        let way = Way { server, mode: watching, met: met.clone(), sessions: sessions.clone() };
        tokio::spawn(serve(listener, port, way));
        Ok(Proxy { port: own_port, mode, met, sessions })
    }

    pub fn set(&self, mode: Mode) {
        if mode != Mode::Forward {
            self.met.forget();
        }
        self.mode.send_replace(mode);
    }

    /// Whether a connection was cut, or data held up, in the last mode that was not `Forward`.
    pub fn has_disturbed(&self) -> bool {
        self.met.disturbed.load(Ordering::Relaxed) > 0
    }

    /// In the last mode that was not `Forward`.
    pub fn lost_answers(&self) -> LostAnswers {
        let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        let Met { claims, settlements, other_changes, .. } = self.met.as_ref();
        LostAnswers { claims: of(claims), settlements: of(settlements), others: of(other_changes) }
    }

    /// Where the server is PostgreSQL.
    pub fn sessions(&self) -> Option<&Sessions> {
        self.sessions.as_ref()
    }
}

async fn serve(listener: TcpListener, port: u16, way: Way) {
    let mut dropped = way.mode.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(connect(client, port, way.clone()));
                }
            }
            // An error: the proxy was dropped.
            _ = dropped.wait_for(|_| false) => return,
        }
    }
}

async fn connect(client: TcpStream, port: u16, mut way: Way) {
    let met = *way.mode.borrow();
    if matches!(met, Mode::Cut | Mode::Swallow) {
        way.met.disturb();
    }
    // A network that swallows everything does not let a connection be made either.
    let made = way.mode.wait_for(|mode| *mode != Mode::Swallow).await.is_ok_and(|mode| *mode != Mode::Cut);
    if !made {
        return;
    }
    let Ok(server) = TcpStream::connect(("127.0.0.1", port)).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let conversation = Mutex::default();
    let listener = way.sessions.as_ref().map(Sessions::listen);
    let mut cut = way.mode.clone();
    tokio::select! {
        () = ask(from_client, to_server, way.clone(), &conversation, listener) => {}
        () = answer(from_server, to_client, way.clone(), &conversation) => {}
        _ = cut.wait_for(|mode| *mode == Mode::Cut) => way.met.disturb(),
    }
}

async fn ask(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut way: Way,
    conversation: &Mutex<Conversation>,
    listener: Option<Listener>,
) {
    let mut buffer = vec![0; BUFFER];
    while let Some(bytes) = next(&mut from, &mut buffer, &mut way).await {
        if way.server == Server::Postgres {
            let loses = *way.mode.borrow() == Mode::LoseAnswers;
            let lose = |change| loses && (change != Change::Other || way.met.has_lost());
            conversation.lock().unwrap_or_else(PoisonError::into_inner).asked(bytes, lose);
        }
        if let Some(listener) = &listener {
            listener.heard(bytes);
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut way: Way, conversation: &Mutex<Conversation>) {
    let mut buffer = vec![0; BUFFER];
    while let Some(bytes) = next(&mut from, &mut buffer, &mut way).await {
        let fate = match way.server {
            Server::Postgres => conversation.lock().unwrap_or_else(PoisonError::into_inner).answered(bytes),
            Server::Broker => Fate::Forward,
        };
        let sent = match fate {
            Fate::Forward => to.write_all(bytes).await,
            Fate::Keep => Ok(()),
            Fate::Release(kept) => to.write_all(&kept).await,
            Fate::Lost(change) => return way.met.lose(change),
        };
        if sent.is_err() {
            return;
        }
    }
}

/// What came next; none at the end of the connection. Whatever the network swallows waits until it is whole again.
async fn next<'a>(from: &mut OwnedReadHalf, buffer: &'a mut [u8], way: &mut Way) -> Option<&'a [u8]> {
    let count = from.read(buffer).await.unwrap_or(0);
    if count > 0 && *way.mode.borrow() == Mode::Swallow {
        way.met.disturb();
    }
    way.mode.wait_for(|mode| !matches!(mode, Mode::Swallow | Mode::Cut)).await.ok()?;
    (count > 0).then(|| &buffer[..count])
}
