//! Sleeping without missing a commit.
//!
//! A NOTIFY on every commit would serialise the producers. So producers notify only while a relay sleeps, which they see
//! in a sequence: unlike a table it is not subject to snapshots, so even a producer with an old snapshot sees the flag.

use std::time::{Duration, Instant};

use sqlx::postgres::PgListener;

use super::{Db, Result, StoreError};

/// So long producers notify after a relay has said that it sleeps. It says so again every second, so the flag of one that
/// was killed, or has lost its database or broker, ends by itself.
const SLEEPING: Duration = Duration::from_secs(5);

/// Says that a relay sleeps: producers notify.
pub async fn sleeping(db: &Db) -> Result<()> {
    let until = "select setval('posthaste.wake', (date_part('epoch', clock_timestamp()) * 1000)::int8 + $1)";
    let millis = SLEEPING.as_millis() as i64;
    db.run(async |c| sqlx::query(until).bind(millis).execute(c).await.map(drop)).await
}

/// Says that a relay is awake: producers do not notify.
pub async fn awake(db: &Db) -> Result<()> {
    db.run(async |c| sqlx::query("select setval('posthaste.wake', 0)").execute(c).await.map(drop)).await
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
pub struct Alarm {
    listener: PgListener,
    /// When the server was last heard of.
    heard: Instant,
}

/// A session that brought nothing for this long is asked whether it is still there: one that was lost without a word would
/// bring nothing for ever.
const SILENCE: Duration = Duration::from_secs(10);
/// Time to begin listening, and to answer that question.
const ANSWER: Duration = Duration::from_secs(5);

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
        let listening = async {
            let mut listener = db.listener().await?;
            listener.listen(channel).await?;
            Result::Ok(listener)
        };
        Ok(Alarm { listener: answered(listening).await?, heard: Instant::now() })
    }

    /// Waits for a notification, or this long. Fails when the session is lost.
    pub async fn wait(&mut self, limit: Duration) -> Result<Wake> {
        let until = Instant::now() + limit;
        loop {
            let now = Instant::now();
            if now - self.heard >= SILENCE {
                answered(sqlx::query("select 1").execute(&mut self.listener)).await?;
                self.heard = Instant::now();
            }
            if now >= until {
                return Ok(Wake::TimedOut);
            }
            let part = (until - now).min(SILENCE.saturating_sub(self.heard.elapsed()));
            let Ok(received) = tokio::time::timeout(part, self.listener.try_recv()).await else { continue };
            self.heard = Instant::now();
            return Ok(match received? {
                Some(notification) => Wake::Notified(notification.payload().to_owned()),
                None => Wake::Reconnected,
            });
        }
    }
}

async fn answered<T, E: Into<StoreError>>(question: impl Future<Output = std::result::Result<T, E>>) -> Result<T> {
    match tokio::time::timeout(ANSWER, question).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(StoreError::TimedOut(ANSWER)),
    }
}
