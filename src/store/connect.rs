//! Opening one connection; an error says which server it is about.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection, Row};

use super::error::{Result, StoreError};
use super::session::Conn;

/// Time to find out why a pool got no connection.
const REASON: Duration = Duration::from_secs(1);

/// Where sessions are opened: at the one server, or at the first of several that takes writes.
#[derive(Debug, Clone)]
pub(super) struct Servers {
    /// One at least.
    pub all: Vec<PgConnectOptions>,
    pub must_write: bool,
    pub found: Found,
}

/// Which server of the list was found last. It is tried first, so that standbys are left alone.
#[derive(Debug, Clone, Default)]
pub struct Found(Arc<AtomicUsize>);

impl Servers {
    /// With a further setting of the session.
    pub fn with(self, name: &str, value: &str) -> Servers {
        let all = self.all.into_iter().map(|options| options.options([(name, value)])).collect();
        Servers { all, ..self }
    }

    /// From the one that was found last on.
    fn in_turn(&self) -> impl Iterator<Item = (usize, &PgConnectOptions)> {
        let last = self.found.0.load(Ordering::Relaxed);
        self.all.iter().enumerate().cycle().skip(last).take(self.all.len())
    }
}

pub(super) async fn open(servers: &Servers, limit: Duration) -> Result<Conn> {
    open_at(servers, limit).await.map(|(connection, _)| connection)
}

/// And which server it is at. Servers that are down or take no writes are passed over; what another one refuses is said.
pub(super) async fn open_at(servers: &Servers, limit: Duration) -> Result<(Conn, PgConnectOptions)> {
    // One that swallows everything must not take the time of the others.
    let limit = limit / servers.all.len().max(1) as u32;
    let mut passed = Vec::new();
    for (number, options) in servers.in_turn() {
        match open_one(options, servers.must_write, limit).await {
            Ok(connection) => {
                servers.found.0.store(number, Ordering::Relaxed);
                return Ok((connection, options.clone()));
            }
            Err(StoreError::Unavailable(reason)) => passed.push(reason),
            Err(other) => return Err(other),
        }
    }
    Err(StoreError::Unavailable(passed.join("; ")))
}

async fn open_one(options: &PgConnectOptions, must_write: bool, limit: Duration) -> Result<Conn> {
    let unreachable = |reason: &dyn std::fmt::Display| {
        StoreError::Unavailable(format!("cannot connect to {}: {reason}", place(options)))
    };
    let opening = async {
        let mut connection = options.connect().await?;
        let writes = !must_write || takes_writes(&mut connection).await?;
        sqlx::Result::Ok((connection, writes))
    };
    match tokio::time::timeout(limit, opening).await {
        Ok(Ok((connection, true))) => Ok(connection),
        Ok(Ok((connection, false))) => {
            let _ = tokio::time::timeout(REASON, connection.close()).await;
            Err(unreachable(&"it takes no writes"))
        }
        Ok(Err(error @ (sqlx::Error::Io(_) | sqlx::Error::Tls(_)))) => match StoreError::from(error) {
            StoreError::Unavailable(reason) => Err(unreachable(&reason)),
            other => Err(other),
        },
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(unreachable(&format_args!("no answer within {limit:?}"))),
    }
}

/// As libpq asks for `read-write`: a standby says no, and so does a server that is set to read only. As text, without a
/// prepared statement.
async fn takes_writes(connection: &mut Conn) -> sqlx::Result<bool> {
    let read_only: String = sqlx::raw_sql("show transaction_read_only").fetch_one(connection).await?.try_get(0)?;
    Ok(read_only == "off")
}

/// A pool tries again and again, and keeps the reason to itself: one connection is opened to learn it.
pub(super) async fn why_none(servers: &Servers, size: u32, waited: Duration) -> StoreError {
    match open(servers, REASON * servers.all.len() as u32).await {
        Ok(connection) => {
            let _ = tokio::time::timeout(REASON, connection.close()).await;
            StoreError::Unavailable(format!("no connection of {size} was free within {waited:?}"))
        }
        Err(error) => error,
    }
}

/// Host and port, or the directory of the socket. Nothing else of the URL.
fn place(options: &PgConnectOptions) -> String {
    match options.get_socket() {
        Some(path) => path.display().to_string(),
        None => format!("{}:{}", options.get_host(), options.get_port()),
    }
}
