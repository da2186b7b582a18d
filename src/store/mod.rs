//! PostgreSQL: the truth. The only place with SQL and the name sqlx.
//!
//! One file for each table or transition; every function is one statement (or one transaction) with a time-out.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};
use thiserror::Error;

pub mod activity;
pub mod attempts;
pub mod circuits;
pub mod claim;
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
    pool: Pool,
    trouble: Trouble,
    limit: Duration,
}

/// When a connection was last found broken: the others that were idle then are not trusted either.
#[derive(Clone, Default)]
struct Trouble(Arc<Mutex<Option<Instant>>>);

impl Trouble {
    fn now(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    fn within(&self, past: Duration) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|last| last.elapsed() <= past)
    }
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
        self.blames_data() || self.is_locked()
    }

    /// Somebody else has a row locked, for longer than a statement waits.
    pub fn is_locked(&self) -> bool {
        const LOCKED: [&str; 3] = ["55P03", "40P01", "57014"];
        self.code().is_some_and(|code| LOCKED.contains(&code))
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

/// A connection that was in use so shortly ago is taken as it is; one that waited longer is asked first.
const TRUSTED: Duration = Duration::from_secs(1);

impl Db {
    /// Makes the pool; connections are opened when they are needed, so the server may come later.
    pub fn new(options: &Options) -> Result<Db> {
        let trouble = Trouble::default();
        let since = trouble.clone();
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.connect_timeout)
            .idle_timeout(Duration::from_secs(300))
            // Not before each statement: that is a round trip, and the server's time.
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let trusted = meta.idle_for < TRUSTED && !since.within(meta.idle_for);
                Box::pin(async move {
                    if !trusted {
                        connection.ping().await?;
                    }
                    Ok(true)
                })
            })
            .connect_lazy_with(options.connect_options()?);
        // The server ends a statement at its own time-out; this limit is for a network that swallows the answer.
        Ok(Db { pool, trouble, limit: options.statement_timeout + options.connect_timeout })
    }

    /// Runs one operation within the limit. A connection that did not answer is thrown away, not reused.
    pub async fn run<T, F>(&self, operation: F) -> Result<T>
    where
        F: AsyncFnOnce(&mut Conn) -> sqlx::Result<T>,
    {
        let mut connection = self.pool.acquire().await?;
        let result = match tokio::time::timeout(self.limit, operation(&mut connection)).await {
            Ok(result) => result.map_err(StoreError::from),
            Err(_) => {
                drop(connection.detach());
                Err(StoreError::TimedOut(self.limit))
            }
        };
        if matches!(result, Err(StoreError::Unavailable(_) | StoreError::TimedOut(_))) {
            self.trouble.now();
        }
        result
    }

    pub async fn ping(&self) -> Result<()> {
        self.run(async |c| sqlx::query("select 1").execute(c).await.map(drop)).await
    }

    pub fn pool(&self) -> &Pool {
        &self.pool
    }

    pub async fn close(&self) {
        // Bounded: closing waits for connections in use.
        let _ = tokio::time::timeout(Duration::from_secs(2), self.pool.close()).await;
    }
}
