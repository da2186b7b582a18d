//! Connections kept open between statements, the one used last first: its server process is warm, and a light load needs
//! only a few. sqlx's pool opens them; given back to it, each would be asked whether it lives after every statement.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, Postgres};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::connect;
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
    connection: PoolConnection<Postgres>,
    opened: Instant,
    since: Instant,
}

/// Dropped, it goes to sqlx's pool, which finds out what state it is in.
pub(super) struct Lent {
    connection: PoolConnection<Postgres>,
    opened: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Lent {
    pub fn connection(&mut self) -> &mut Conn {
        &mut self.connection
    }

    /// Nothing more is expected of it.
    pub fn throw_away(self) {
        drop(self.connection.detach());
    }
}

impl Connections {
    pub fn new(options: &Options, connect: PgConnectOptions) -> Connections {
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections.saturating_add(LISTENING))
            .acquire_timeout(options.connect_timeout)
            .idle_timeout(TRUSTED)
            .max_lifetime(None)
            .connect_lazy_with(connect);
        let permits = Arc::new(Semaphore::new(options.max_connections as usize));
        Connections { pool, permits, patience: options.connect_timeout, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub async fn lend(&self) -> sqlx::Result<Lent> {
        let lend = async {
            let permit = self.permits.clone().acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
            while let Some(mut free) = self.take() {
                if self.is_alive(&mut free).await {
                    return Ok(Lent { connection: free.connection, opened: free.opened, _permit: permit });
                }
                // Those below it were idle for longer, over the same network.
                drop(free.connection.detach());
                self.forget_idle();
            }
            let connection = self.pool.acquire().await?;
            Ok(Lent { connection, opened: Instant::now(), _permit: permit })
        };
        timeout(self.patience, lend).await.unwrap_or(Err(sqlx::Error::PoolTimedOut))
    }

    fn take(&self) -> Option<Free> {
        self.state().free.pop()
    }

    async fn is_alive(&self, free: &mut Free) -> bool {
        let trusted = {
            let trouble = self.state().trouble;
            free.since.elapsed() < TRUSTED && trouble.is_none_or(|last| last < free.since)
        };
        trusted || matches!(timeout(ANSWER, free.connection.ping()).await, Ok(Ok(())))
    }

    fn forget_idle(&self) {
        let idle = std::mem::take(&mut self.state().free);
        idle.into_iter().for_each(|free| drop(free.connection.detach()));
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
        let unneeded = idle.then(|| state.free.remove(0).connection.detach());
        drop(state);
        drop(unneeded);
    }

    pub fn trouble(&self) {
        self.state().trouble = Some(Instant::now());
    }

    pub async fn why_none(&self) -> StoreError {
        let size = self.pool.options().get_max_connections() - LISTENING;
        connect::why_none(&self.pool, size, self.patience).await
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    pub async fn close(&self) {
        self.permits.close();
        self.forget_idle();
        // Bounded: closing waits for connections in use.
        let _ = timeout(Duration::from_secs(2), self.pool.close()).await;
    }
}
