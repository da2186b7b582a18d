//! PostgreSQL: the truth. The only place with SQL and the name sqlx.
//!
//! One file for each table or transition; every function is one statement (or one transaction) with a time-out.

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, PgConnection, PgPool};
use thiserror::Error;

use connections::Connections;

pub mod activity;
pub mod attempts;
pub mod circuits;
pub mod claim;
mod claim_sql;
mod connect;
mod connections;
pub mod days;
pub mod delay_queues;
pub mod deliveries;
pub mod due;
pub mod ended;
pub mod endpoints;
pub mod events;
pub mod held;
pub mod idempotency;
pub mod locks;
pub mod markers;
pub mod migrate;
pub mod outbox;
pub mod partitions;
pub mod pauses;
pub mod reconcile;
pub mod relay_batches;
pub mod release;
pub mod replay;
pub mod requeue;
pub mod secrets;
pub mod sendable;
pub mod settle;
pub mod stats;
pub mod suspects;
pub mod wake;

pub type Pool = PgPool;
pub type Conn = PgConnection;
pub type Tx<'a> = sqlx::Transaction<'a, sqlx::Postgres>;

/// Bounded access to the database: no call waits longer than the limit, whatever happens to the network.
#[derive(Clone)]
pub struct Db {
    connections: Arc<Connections>,
    limit: Duration,
    asking: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Clone)]
pub struct Options {
    pub url: SecretString,
    pub max_connections: u32,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    /// How long a statement waits for a row that somebody else has locked.
    pub lock_timeout: Duration,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// Service sessions plan a statement once, and avoid plans that were good for an empty table only; reports keep the
    /// planner's freedom.
    pub service: bool,
    /// The relay may commit asynchronously: a settlement that is durable makes everything before it durable.
    pub asynchronous_commit: bool,
}

#[derive(Debug, Error)]
pub enum StoreError {
    /// The server is away, or the connection broke: nothing is known about the statement.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    #[error("database: no answer within {0:?}")]
    TimedOut(Duration),
    /// The server refused the statement. The text is the server's message without its detail, which may quote a row.
    #[error("database refused: {message} (SQLSTATE {code})")]
    Refused { code: String, message: String },
    /// Locks would stay with a session that somebody else goes on using.
    #[error(
        "database: this connection has no session of its own; relays, requeue and reconcile need a direct connection to PostgreSQL, or a pooler in session mode"
    )]
    SharedSession,
    #[error("database.url: {0}")]
    Url(String),
    #[error("database: {0}")]
    Other(String),
}

pub type Result<T> = std::result::Result<T, StoreError>;

impl StoreError {
    /// The SQLSTATE, where the server gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            StoreError::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// The data of a statement is at fault, not the state of the server: trying the same again will not help.
    pub fn blames_data(&self) -> bool {
        self.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23") || code.starts_with("54"))
    }
}

impl StoreError {
    /// Nobody said that the statement was not done: it may have been committed, and the answer lost.
    pub fn may_be_done(&self) -> bool {
        !matches!(self, StoreError::Refused { .. } | StoreError::Url(_))
    }

    /// Some rows are the reason, and a statement about others would succeed: their data, or somebody has them locked.
    pub fn blames_rows(&self) -> bool {
        const LOCKED: [&str; 3] = ["55P03", "40P01", "57014"];
        self.blames_data() || self.code().is_some_and(|code| LOCKED.contains(&code))
    }

    /// Something of the schema is not there, or has another form than this program knows.
    pub fn misses_schema(&self) -> bool {
        let StoreError::Refused { code, message } = self else { return false };
        matches!(code.as_str(), "3F000" | "42P01" | "42703" | "42883") && message.contains("posthaste")
    }

    /// The statement took too long; a smaller one may not.
    pub fn is_time_out(&self) -> bool {
        matches!(self, StoreError::TimedOut(_)) || self.code() == Some("57014")
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default().into_owned();
                // Class 57 is the server going away under us (shutdown, crash recovery), class 08 a broken connection.
                if code.starts_with("57P") || code.starts_with("08") || code.starts_with("53") {
                    StoreError::Unavailable(error.message().to_owned())
                } else {
                    StoreError::Refused { code, message: error.message().to_owned() }
                }
            }
            sqlx::Error::Io(error) => StoreError::Unavailable(error.to_string()),
            sqlx::Error::Tls(error) => StoreError::Unavailable(error.to_string()),
            sqlx::Error::PoolTimedOut => StoreError::Unavailable("no connection could be made in time".into()),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => StoreError::Unavailable("closed".into()),
            other => StoreError::Other(other.to_string()),
        }
    }
}

impl Options {
    fn connect_options(&self) -> Result<PgConnectOptions> {
        let options: PgConnectOptions =
            self.url.expose_secret().parse().map_err(|e: sqlx::Error| StoreError::Url(e.to_string()))?;
        let statement_timeout = format!("{}ms", self.statement_timeout.as_millis());
        let mut settings = vec![
            ("statement_timeout", statement_timeout.clone()),
            ("lock_timeout", format!("{}ms", self.lock_timeout.as_millis())),
            ("idle_in_transaction_session_timeout", statement_timeout),
            ("TimeZone", "UTC".to_owned()),
        ];
        if self.service {
            // A peer that is gone without a word is given up within half a minute, by the server's side of TCP too.
            settings.push(("idle_session_timeout", IDLE.to_owned()));
            settings.extend(KEEPALIVE.map(|(name, value)| (name, value.to_owned())));
            settings.push(("enable_seqscan", "off".to_owned()));
            settings.push(("jit", "off".to_owned()));
            // Planning a statement again for each execution costs more than running it.
            settings.push(("plan_cache_mode", "force_generic_plan".to_owned()));
        }
        if self.asynchronous_commit {
            settings.push(("synchronous_commit", "off".to_owned()));
            // Only the claim uses these sessions, and it needs the order of an index everywhere; what is gathered and sorted grows with the outbox.
            settings.push(("enable_bitmapscan", "off".to_owned()));
        }
        Ok(options.application_name(&self.application_name).options(settings).disable_statement_logging())
    }
}

/// The server ends a session that was idle for this long, whatever answers in between for a client that is gone. The pool
/// gives up its own earlier.
const IDLE: &str = "15min";
/// The first three ask a peer that is silent, the last one bounds how long it may leave what was sent unacknowledged.
const KEEPALIVE: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "10s"),
    ("tcp_keepalives_interval", "5s"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "25s"),
];

impl Db {
    /// Connections are opened when they are needed, so the server may come later.
    pub fn new(options: &Options) -> Result<Db> {
        let connections = Arc::new(Connections::new(options, options.connect_options()?));
        // The server ends a statement at its own time-out; this limit is for a network that swallows the answer.
        Ok(Db { connections, limit: options.statement_timeout + options.connect_timeout, asking: Arc::default() })
    }

    /// Runs one operation within the limit. A connection that did not answer is thrown away, not reused.
    pub async fn run<T, F>(&self, operation: F) -> Result<T>
    where
        F: AsyncFnOnce(&mut Conn) -> sqlx::Result<T>,
    {
        let mut lent = match self.connections.lend().await {
            Err(sqlx::Error::PoolTimedOut) => return Err(self.why_no_connection().await),
            lent => lent?,
        };
        let result = match tokio::time::timeout(self.limit, operation(lent.connection())).await {
            Ok(result) => result.map_err(StoreError::from),
            Err(_) => {
                lent.throw_away();
                self.connections.trouble();
                return Err(StoreError::TimedOut(self.limit));
            }
        };
        match &result {
            Ok(_) => self.connections.keep(lent),
            Err(StoreError::Unavailable(_)) => self.connections.trouble(),
            // sqlx ends what it may have begun.
            Err(_) => {}
        }
        result
    }

    /// One caller at a time asks: where all connections are in use, more of them would not help.
    async fn why_no_connection(&self) -> StoreError {
        match self.asking.try_lock() {
            Ok(_asking) => self.connections.why_none().await,
            Err(_) => sqlx::Error::PoolTimedOut.into(),
        }
    }

    pub async fn ping(&self) -> Result<()> {
        self.run(async |c| sqlx::query("select 1").execute(c).await.map(drop)).await
    }

    /// For sessions that listen.
    pub fn pool(&self) -> &Pool {
        self.connections.pool()
    }

    pub async fn close(&self) {
        self.connections.close().await;
    }
}
