//! Opening one connection; an error says which server it is about.

use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions, Connection};

use super::error::{Result, StoreError};
use super::session::{Conn, Pool};

/// Time to find out why a pool got no connection.
const REASON: Duration = Duration::from_secs(1);

pub(super) async fn open(options: &PgConnectOptions, limit: Duration) -> Result<Conn> {
    let unreachable = |reason: &dyn std::fmt::Display| {
        StoreError::Unavailable(format!("cannot connect to {}: {reason}", place(options)))
    };
    match tokio::time::timeout(limit, options.connect()).await {
        Ok(Err(error @ (sqlx::Error::Io(_) | sqlx::Error::Tls(_)))) => match StoreError::from(error) {
            StoreError::Unavailable(reason) => Err(unreachable(&reason)),
            other => Err(other),
        },
        Ok(result) => Ok(result?),
        Err(_) => Err(unreachable(&format_args!("no answer within {limit:?}"))),
    }
}

/// A pool tries again and again, and keeps the reason to itself: one connection is opened to learn it.
pub(super) async fn why_none(pool: &Pool, size: u32, waited: Duration) -> StoreError {
    match open(&pool.connect_options(), REASON).await {
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
