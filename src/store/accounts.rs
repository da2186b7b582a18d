//! The account of each requeue, replay, resend and early retry: what was asked for and what was done.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Db, Result};

/// A run that was begun.
#[derive(Debug, Clone, sqlx_macros::FromRow)]
pub struct Account {
    pub id: i64,
    pub kind: String,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub selection: Value,
    pub matched: i64,
    /// Deliveries that were put on their way.
    pub requeued: i64,
    pub error: Option<String>,
}

/// Opens the account of one run.
pub async fn begin(db: &Db, kind: &str, selection: &Value, matched: i64) -> Result<(i64, DateTime<Utc>)> {
    db.run(async |c| {
        sqlx::query_as(
            "insert into posthaste.requeues (kind, selection, matched) values ($1, $2, $3) returning id, started_at",
        )
        .bind(kind)
        .bind(selection)
        .bind(matched)
        .fetch_one(c)
        .await
    })
    .await
}

pub async fn get(db: &Db, id: i64) -> Result<Option<Account>> {
    let read = "select id, kind, started_at, finished_at, selection, matched, requeued, error from posthaste.requeues where id = $1";
    db.run(async |c| sqlx::query_as(read).bind(id).fetch_optional(c).await).await
}

/// Adds to the account, so that a run that is killed has said what it did.
pub async fn progress(db: &Db, id: i64, requeued: i64, created: i64) -> Result<()> {
    db.run(async |c| {
        sqlx::query("update posthaste.requeues set requeued = $2, created = $3 where id = $1")
            .bind(id)
            .bind(requeued)
            .bind(created)
            .execute(c)
            .await
            .map(drop)
    })
    .await
}

pub async fn finish(db: &Db, id: i64, error: Option<&str>) -> Result<()> {
    db.run(async |c| {
        sqlx::query("update posthaste.requeues set finished_at = now(), error = $2 where id = $1")
            .bind(id)
            .bind(error)
            .execute(c)
            .await
            .map(drop)
    })
    .await
}
