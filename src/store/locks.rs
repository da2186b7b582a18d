//! The relay's own session: it holds the advisory locks that say "this relay lives" and "this relay leads".
//!
//! The locks belong to the session, so the server gives them up the moment the relay dies or loses its connection. Where
//! the connection is lost without a word (a host or a network that is gone), the server ends the session for its silence.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::{Connection, Row};
use tokio::sync::Mutex;
use tokio::task::AbortHandle;

use super::connect::{self, Servers};
use super::{Conn, Options, Result, StoreError};

/// First keys of the two-key advisory locks, so that ours meet nobody else's.
const RELAY: i32 = 0x7068_0001;
const ROLE: i32 = 0x7068_0002;

/// A session that was silent for this long is ended by the server, and its locks are free. TCP's keepalive would take two
/// hours by default, and what stands in between may answer it for a host that is gone.
const SILENCE: Duration = Duration::from_secs(15);
/// So often it says that it is there, whatever its owner is busy with.
const BEAT: Duration = Duration::from_secs(3);
/// How often a command asks for a role that another session has, and how long it waits in between.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(100);

/// What only one process may do at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Release, adoption, partitions.
    Leader = 1,
    /// One requeue or sweep of the dead-letter queue at a time.
    Requeue = 2,
}

pub struct Session {
    /// None: closed.
    connection: Arc<Mutex<Option<Conn>>>,
    limit: Duration,
    /// The server's process behind it, which holds the locks.
    backend: i32,
    /// The identity whose lock it took first.
    relay: OnceLock<i32>,
    heart: AbortHandle,
}

impl Session {
    /// Fails with `SharedSession` where a pooler lends one session of the server to several connections.
    pub async fn open(options: &Options) -> Result<Session> {
        let limit = options.connect_timeout;
        let servers = options.servers()?.with("idle_session_timeout", &SILENCE.as_millis().to_string());
        let connection = Arc::new(Mutex::new(Some(connect::open(&servers, limit).await?)));
        let heart = tokio::spawn(beat(connection.clone(), limit)).abort_handle();
        let mut session = Session { connection, limit, backend: 0, relay: OnceLock::new(), heart };
        session.backend = session.backend().await?;
        session.refuse_shared(&servers).await?;
        Ok(session)
    }

    /// Two connections that are open at the same time have two sessions, unless a pooler is in between.
    async fn refuse_shared(&self, servers: &Servers) -> Result<()> {
        let mut second = connect::open(servers, self.limit).await?;
        let other = bounded(self.limit, backend(&mut second)).await;
        let _ = bounded(self.limit, second.close()).await;
        if other? == self.backend { Err(StoreError::SharedSession) } else { self.ping().await }
    }

    /// Takes the lock of one relay identity; false when another session has it.
    pub async fn try_relay(&self, relay: i32) -> Result<bool> {
        let taken = self.try_lock(RELAY, relay).await?;
        if taken {
            self.relay.get_or_init(|| relay);
        }
        Ok(taken)
    }

    pub async fn try_role(&self, role: Role) -> Result<bool> {
        self.try_lock(ROLE, role as i32).await
    }

    /// For a command: the leader takes it too, for the moments of a duty, and that is no reason to fail.
    pub async fn try_role_for_a_while(&self, role: Role) -> Result<bool> {
        for _ in 1..TRIES {
            if self.try_role(role).await? {
                return Ok(true);
            }
            tokio::time::sleep(PAUSE).await;
        }
        self.try_role(role).await
    }

    pub async fn release_relay(&self, relay: i32) -> Result<()> {
        self.bounded(async |c| {
            sqlx::query("select pg_advisory_unlock($1, $2)").bind(RELAY).bind(relay).execute(c).await.map(drop)
        })
        .await
    }

    /// Fails when the session, and with it every lock, is gone.
    pub async fn ping(&self) -> Result<()> {
        if self.backend().await? == self.backend { Ok(()) } else { Err(StoreError::SharedSession) }
    }

    /// Fails when the lock of its identity is not its own any more: a pooler may also take a session's locks away between
    /// two transactions.
    pub async fn must_hold(&self) -> Result<()> {
        let Some(relay) = self.relay.get() else { return Ok(()) };
        let held: bool =
            self.bounded(async |c| sqlx::query_scalar(HOLDS).bind(RELAY).bind(relay).fetch_one(c).await).await?;
        if held { Ok(()) } else { Err(StoreError::SharedSession) }
    }

    pub async fn close(self) {
        self.heart.abort();
        if let Some(connection) = self.connection.lock().await.take() {
            let _ = bounded(self.limit, connection.close()).await;
        }
    }

    async fn backend(&self) -> Result<i32> {
        self.bounded(async |c| backend(c).await).await
    }

    async fn try_lock(&self, class: i32, key: i32) -> Result<bool> {
        self.bounded(async |c| {
            sqlx::query_scalar("select pg_try_advisory_lock($1, $2)").bind(class).bind(key).fetch_one(c).await
        })
        .await
    }

    async fn bounded<T>(&self, operation: impl AsyncFnOnce(&mut Conn) -> sqlx::Result<T>) -> Result<T> {
        bounded(self.limit, async {
            match self.connection.lock().await.as_mut() {
                Some(connection) => operation(connection).await,
                None => Err(sqlx::Error::PoolClosed),
            }
        })
        .await
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.heart.abort();
    }
}

const HOLDS: &str = "
select exists (select from pg_locks
 where locktype = 'advisory' and pid = pg_backend_pid() and granted
   and database = (select oid from pg_database where datname = current_database())
   and classid = $1::int8::oid and objid = $2::int8::oid and objsubid = 2)";

/// As text, without a prepared statement: the answer must be right where those do not work either.
async fn backend(connection: &mut Conn) -> sqlx::Result<i32> {
    sqlx::raw_sql("select pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

/// Keeps the session from being silent. That it is lost, its owner notices with its own next question.
async fn beat(connection: Arc<Mutex<Option<Conn>>>, limit: Duration) {
    let mut tick = tokio::time::interval(BEAT);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match connection.lock().await.as_mut() {
            Some(connection) => drop(bounded(limit, backend(connection)).await),
            None => return,
        }
    }
}

/// A prepared statement that is not there, or is there already, is another connection's.
const NOT_OURS: [&str; 2] = ["26000", "42P05"];

async fn bounded<T>(limit: Duration, operation: impl Future<Output = sqlx::Result<T>>) -> Result<T> {
    match tokio::time::timeout(limit, operation).await {
        Ok(result) => result.map_err(StoreError::from).map_err(|error| match error.code() {
            Some(code) if NOT_OURS.contains(&code) => StoreError::SharedSession,
            _ => error,
        }),
        Err(_) => Err(StoreError::TimedOut(limit)),
    }
}
