//! Bounded access to PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;

use super::connections::{Connections, Lack};
use super::error::{Result, StoreError};
use super::options::Options;
use super::session::Conn;

/// Bounded access to the database: no call waits longer than the limit, whatever happens to the network.
#[derive(Clone)]
pub struct Db {
    connections: Arc<Connections>,
    limit: Duration,
    asking: Arc<tokio::sync::Mutex<()>>,
}

impl Db {
    /// Connections are opened when they are needed, so the server may come later.
    pub fn new(options: &Options) -> Result<Db> {
        let connections = Arc::new(Connections::new(options)?);
        // The server ends a statement at its own time-out; this limit is for a network that swallows the answer.
        Ok(Db { connections, limit: options.statement_timeout + options.connect_timeout, asking: Arc::default() })
    }

    /// Runs one operation within the limit. A connection that did not answer is thrown away, not reused.
    pub async fn run<T, F>(&self, operation: F) -> Result<T>
    where
        F: AsyncFnOnce(&mut Conn) -> sqlx::Result<T>,
    {
        let mut lent = match self.connections.lend().await {
            Ok(lent) => lent,
            Err(Lack::TimedOut) => return Err(self.why_no_connection().await),
            Err(Lack::Told(error)) => return Err(error),
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
            // It has become a standby, or another one was found behind the same name.
            Err(error) if error.is_read_only() => {
                lent.throw_away();
                self.connections.trouble();
            }
            Err(StoreError::Refused { .. }) => self.connections.refused(lent),
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

    pub async fn listener(&self) -> Result<PgListener> {
        self.connections.listener().await
    }

    pub async fn close(&self) {
        self.connections.close().await;
    }
}
