//! Sleeping without missing a commit.
//!
//! A NOTIFY on every commit would serialise the producers. So producers notify only while a relay sleeps, which they see
//! in a sequence: unlike a table it is not subject to snapshots, so even a producer with an old snapshot sees the flag.

use std::time::Duration;

use sqlx::postgres::PgListener;

use super::{Db, Result};

/// Says that a relay sleeps (producers notify) or is awake (they do not).
pub async fn set_asleep(db: &Db, asleep: bool) -> Result<()> {
    let value = i64::from(asleep);
    db.run(async |c| sqlx::query("select setval('posthaste.wake', $1)").bind(value).execute(c).await.map(drop)).await
}

/// The first transaction id not yet assigned: whoever read the flag before now has a smaller one.
pub async fn barrier(db: &Db) -> Result<i64> {
    db.run(async |c| {
        sqlx::query_scalar("select pg_snapshot_xmax(pg_current_snapshot())::text::bigint").fetch_one(c).await
    })
    .await
}

/// Whether every transaction below the barrier has ended, so that its rows are visible to the next claim.
pub async fn passed(db: &Db, barrier: i64) -> Result<bool> {
    db.run(async |c| {
        sqlx::query_scalar("select pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= $1")
            .bind(barrier)
            .fetch_one(c)
            .await
    })
    .await
}

/// Listens on a session of its own.
pub struct Alarm(PgListener);

pub const OUTBOX: &str = "posthaste_wake";
pub const ENDPOINTS: &str = "posthaste_endpoint";

/// What ended a wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wake {
    Notified(String),
    /// The session broke and was made again: notifications may have been missed.
    Reconnected,
    TimedOut,
}

impl Alarm {
    pub async fn listen(db: &Db, channel: &str) -> Result<Alarm> {
        let mut listener = PgListener::connect_with(db.pool()).await?;
        listener.listen(channel).await?;
        Ok(Alarm(listener))
    }

    pub async fn wait(&mut self, limit: Duration) -> Result<Wake> {
        match tokio::time::timeout(limit, self.0.try_recv()).await {
            Err(_) => Ok(Wake::TimedOut),
            Ok(Ok(Some(notification))) => Ok(Wake::Notified(notification.payload().to_owned())),
            Ok(Ok(None)) => Ok(Wake::Reconnected),
            Ok(Err(error)) => Err(error.into()),
        }
    }
}
