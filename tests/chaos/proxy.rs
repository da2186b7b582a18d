//! The proxy between one process and one server: it cuts their connections, swallows what they say, or loses answers.

use std::borrow::Cow;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::chaos::conversation::{Change, Conversation, Fate};
use crate::chaos::kind::Server;
use crate::chaos::statements::Sessions;
use crate::kit::proxy::{self, Passed, Servers, Wire};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Forward,
    Swallow,
    Cut,
    /// PostgreSQL carries out every change and commits it; its connection is closed in place of the answer.
    LoseAnswers,
}

/// Serves until it is dropped.
pub struct Proxy {
    proxy: proxy::Proxy,
    servers: Servers,
    met: Arc<Met>,
    sessions: Option<Sessions>,
}

/// Who met the last mode that was not `Forward`.
#[derive(Debug, Default)]
struct Met {
    loses_answers: AtomicBool,
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

/// One connection; with what is said in it, where that is a session with PostgreSQL.
struct Connection {
    met: Arc<Met>,
    conversation: Option<Mutex<Conversation>>,
}

impl Met {
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
    /// To this kind of server, at its URL.
    pub fn to(server: Server, url: &str) -> Proxy {
        Proxy::with((server == Server::Postgres).then(Sessions::default), url)
    }

    /// One that looks into nothing that is said.
    pub fn deaf(url: &str) -> Proxy {
        Proxy::with(None, url)
    }

    fn with(sessions: Option<Sessions>, url: &str) -> Proxy {
        let met = Arc::<Met>::default();
        let (meets, listens) = (met.clone(), sessions.clone());
        let connection = move || Connection {
            met: meets.clone(),
            conversation: listens.as_ref().map(|sessions| Mutex::new(Conversation::new(sessions.listen()))),
        };
        let servers = Servers::of(&[url]);
        let (proxy, serving) = proxy::Proxy::to(servers.clone(), connection);
        tokio::spawn(serving);
        Proxy { proxy, servers, met, sessions }
    }

    /// From now on connections go to these servers, in turn.
    pub fn lead_to(&self, urls: &[&str]) {
        self.servers.set(urls);
    }

    /// The URL of the server by way of the proxy.
    pub fn url(&self, url: &str) -> String {
        self.proxy.url(url)
    }

    pub fn set(&self, mode: Mode) {
        if mode != Mode::Forward {
            self.met.forget();
        }
        self.met.loses_answers.store(mode == Mode::LoseAnswers, Ordering::Relaxed);
        self.proxy.set(match mode {
            Mode::Forward | Mode::LoseAnswers => proxy::Mode::Forward,
            Mode::Swallow => proxy::Mode::Swallow,
            Mode::Cut => proxy::Mode::Cut,
        });
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

impl Connection {
    fn conversation(&self) -> Option<MutexGuard<'_, Conversation>> {
        self.conversation.as_ref().map(|conversation| conversation.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Wire for Connection {
    fn asked(&self, bytes: &[u8]) {
        let loses = self.met.loses_answers.load(Ordering::Relaxed);
        let lose = |change| loses && (change != Change::Other || self.met.has_lost());
        if let Some(mut conversation) = self.conversation() {
            conversation.asked(bytes, lose);
        }
    }

    fn answered<'a>(&self, bytes: &'a [u8]) -> Passed<'a> {
        let fate = self.conversation().map_or(Fate::Forward, |mut conversation| conversation.answered(bytes));
        match fate {
            Fate::Forward => ControlFlow::Continue(Cow::Borrowed(bytes)),
            Fate::Keep => ControlFlow::Continue(Cow::default()),
            Fate::Release(kept) => ControlFlow::Continue(Cow::Owned(kept)),
            Fate::Lost(change) => {
                self.met.lose(change);
                ControlFlow::Break(())
            }
        }
    }

    fn disturbed(&self) {
        self.met.disturbed.fetch_add(1, Ordering::Relaxed);
    }
}
