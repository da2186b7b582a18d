//! The relay's own session: it holds the advisory locks that say "this relay lives" and "this relay leads".
//!
//! The locks belong to the session, so the server gives them up the moment the relay dies or loses its connection.

use std::time::Duration;

use sqlx::{ConnectOptions, Connection};

use super::{Conn, Options, Result, StoreError};

/// First keys of the two-key advisory locks, so that ours meet nobody else's.
const RELAY: i32 = 0x7068_0001;
const ROLE: i32 = 0x7068_0002;

/// What only one process may do at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Release, adoption, partitions.
    Leader = 1,
    /// One requeue at a time.
    Requeue = 2,
}

pub struct Session {
    connection: Conn,
    limit: Duration,
}

impl Session {
    pub async fn open(options: &Options) -> Result<Session> {
        let limit = options.connect_timeout;
        let options = options.connect_options()?;
        let connection =
            tokio::time::timeout(limit, options.connect()).await.map_err(|_| StoreError::TimedOut(limit))??;
        Ok(Session { connection, limit })
    }

    /// Takes the lock of one relay identity; false when another session has it.
    pub async fn try_relay(&mut self, relay: i32) -> Result<bool> {
        self.try_lock(RELAY, relay).await
    }

    pub async fn try_role(&mut self, role: Role) -> Result<bool> {
        self.try_lock(ROLE, role as i32).await
    }

    pub async fn release_relay(&mut self, relay: i32) -> Result<()> {
        self.bounded(async |c| {
            sqlx::query("select pg_advisory_unlock($1, $2)").bind(RELAY).bind(relay).execute(c).await.map(drop)
        })
        .await
    }

    /// Fails when the session, and with it every lock, is gone.
    pub async fn ping(&mut self) -> Result<()> {
        self.bounded(async |c| sqlx::query("select 1").execute(c).await.map(drop)).await
    }

    pub async fn close(self) {
        let _ = tokio::time::timeout(self.limit, self.connection.close()).await;
    }

    async fn try_lock(&mut self, class: i32, key: i32) -> Result<bool> {
        self.bounded(async |c| {
            sqlx::query_scalar("select pg_try_advisory_lock($1, $2)").bind(class).bind(key).fetch_one(c).await
        })
        .await
    }

    async fn bounded<T>(&mut self, operation: impl AsyncFnOnce(&mut Conn) -> sqlx::Result<T>) -> Result<T> {
        match tokio::time::timeout(self.limit, operation(&mut self.connection)).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(StoreError::TimedOut(self.limit)),
        }
    }
}
