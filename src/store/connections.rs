//! Connections kept open between statements, the one used last first: its server process is warm, and a light load needs
//! only a few. sqlx's pool opens them; given back to it, each would be asked whether it lives after every statement.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgListener, PgPoolOptions};
use sqlx::{Connection, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connect::{self, Servers};
use super::error::StoreError;
use super::options::Options;
use super::session::{Conn, Pool};

/// A connection that was in use so shortly ago is taken as it is; one that waited longer is asked first.
const TRUSTED: Duration = Duration::from_secs(1);
/// To say that it lives, one that is asked has this long.
const ANSWER: Duration = Duration::from_secs(1);
/// One that was not needed for so long is closed.
const NEEDED: Duration = Duration::from_secs(300);
/// So is one of this age: what the server process remembers of each day's tables only grows.
const OLDEST: Duration = Duration::from_secs(30 * 60);
/// A session that listens holds a connection of its own for long.
const LISTENING: u32 = 1;

pub(super) struct Connections {
    pool: Pool,
    servers: Servers,
    /// One of ours is opened at a time: after a failover all are opened anew, and each costs both sides something.
    turn: tokio::sync::Mutex<()>,
    permits: Arc<Semaphore>,
    /// To get a connection.
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In the order of their last use.
    free: Vec<Free>,
    /// When a connection was last found broken: the others that were idle then are not trusted either.
    trouble: Option<Instant>,
}

struct Free {
    connection: Opened,
    opened: Instant,
    since: Instant,
}

/// By sqlx's pool, which knows one server; or where there are several, by us.
enum Opened {
    Pooled(PoolConnection<Postgres>),
    Own(Conn),
}

impl Opened {
    fn get(&mut self) -> &mut Conn {
        match self {
            Opened::Pooled(connection) => connection,
            Opened::Own(connection) => connection,
        }
    }

    fn close(self) {
        if let Opened::Pooled(connection) = self {
            drop(connection.detach());
        }
    }
}

/// Dropped, it goes to sqlx's pool, which finds out what state it is in.
pub(super) struct Lent {
    connection: Opened,
    opened: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    pub fn connection(&mut self) -> &mut Conn {
        self.connection.get()
    }

    /// Nothing more is expected of it.
    pub fn throw_away(self) {
        self.connection.close();
    }
}

/// Why there was no connection.
pub(super) enum Lack {
    /// Within the time; the reason is to be found out.
    TimedOut,
    Told(StoreError),
}

impl Connections {
    pub fn new(options: &Options) -> Result<Connections, StoreError> {
        let servers = options.servers()?;
        let first = servers.all.first().cloned().unwrap_or_default();
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections.saturating_add(LISTENING))
            .acquire_timeout(options.connect_timeout)
            .idle_timeout(TRUSTED)
            .max_lifetime(None)
            .connect_lazy_with(first);
        let permits = Arc::new(Semaphore::new(options.max_connections as usize));
        let (turn, state) = (tokio::sync::Mutex::default(), Mutex::default());
        Ok(Connections { pool, servers, turn, permits, patience: options.connect_timeout, state })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn lend(&self) -> Result<Lent, Lack> {
        let lend = async {
            let closed = |_| Lack::Told(sqlx::Error::PoolClosed.into());
            let permit = self.permits.clone().acquire_owned().await.map_err(closed)?;
            if let Some(free) = self.take_alive().await {
                return Ok(Lent { connection: free.connection, opened: free.opened, _permit: permit });
            }
            let _turn = if self.servers.must_write { Some(self.turn.lock().await) } else { None };
            // Meanwhile others may need theirs no longer.
            let free = if self.servers.must_write { self.take_alive().await } else { None };
            let (connection, opened) = match free {
                Some(free) => (free.connection, free.opened),
                None => (self.open().await?, Instant::now()),
            };
            Ok(Lent { connection, opened, _permit: permit })
        };
        timeout(self.patience, lend).await.unwrap_or(Err(Lack::TimedOut))
    }

    async fn open(&self) -> Result<Opened, Lack> {
        if self.servers.must_write {
            return connect::open(&self.servers, self.patience).await.map(Opened::Own).map_err(Lack::Told);
        }
        match self.pool.acquire().await {
            Ok(connection) => Ok(Opened::Pooled(connection)),
            Err(sqlx::Error::PoolTimedOut) => Err(Lack::TimedOut),
            Err(error) => Err(Lack::Told(error.into())),
        }
    }

    /// A session of its own, which needs a pool. It is made rarely, so the server is looked for each time.
    pub async fn listener(&self) -> Result<PgListener, StoreError> {
        if self.servers.must_write {
            let (connection, options) = connect::open_at(&self.servers, self.patience).await?;
            self.pool.set_connect_options(options);
            let _ = timeout(ANSWER, connection.close()).await;
        }
        Ok(PgListener::connect_with(&self.pool).await?)
    }

    async fn take_alive(&self) -> Option<Free> {
        while let Some(mut free) = self.take() {
            if self.is_alive(&mut free).await {
                return Some(free);
            }
            // Those below it were idle for longer, over the same network.
            free.connection.close();
            self.forget_idle();
        }
        None
    }

    fn take(&self) -> Option<Free> {
        self.state().free.pop()
    }

    async fn is_alive(&self, free: &mut Free) -> bool {
        let trusted = {
            let trouble = self.state().trouble;
            free.since.elapsed() < TRUSTED && trouble.is_none_or(|last| last < free.since)
        };
        trusted || matches!(timeout(ANSWER, free.connection.get().ping()).await, Ok(Ok(())))
    }

    fn forget_idle(&self) {
        let idle = std::mem::take(&mut self.state().free);
        idle.into_iter().for_each(|free| free.connection.close());
    }

    /// After an operation that ended well: the connection is ready for the next one.
    pub fn keep(&self, lent: Lent) {
        if lent.opened.elapsed() > OLDEST {
            return lent.throw_away();
        }
        let mut state = self.state();
        state.free.push(Free { connection: lent.connection, opened: lent.opened, since: Instant::now() });
        // What is not needed is always at the bottom.
        let idle = state.free.first().is_some_and(|free| free.since.elapsed() > NEEDED);
        let unneeded = idle.then(|| state.free.remove(0));
        drop(state);
        unneeded.into_iter().for_each(|free| free.connection.close());
    }

    /// After a statement that was refused. sqlx's pool finds out whether something is to be ended; one of ours ends it with its next
    /// statement.
    pub fn refused(&self, lent: Lent) {
        if let Opened::Own(_) = lent.connection {
            self.keep(lent);
        }
    }

    pub fn trouble(&self) {
        self.state().trouble = Some(Instant::now());
    }

    pub async fn why_none(&self) -> StoreError {
        let size = self.pool.options().get_max_connections() - LISTENING;
        connect::why_none(&self.servers, size, self.patience).await
    }

    pub async fn close(&self) {
        self.permits.close();
        self.forget_idle();
        // Bounded: closing waits for connections in use.
        let _ = timeout(Duration::from_secs(2), self.pool.close()).await;
    }
}
