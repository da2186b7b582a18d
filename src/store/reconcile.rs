//! What the broker has lost: finding it, and putting it on its way again.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::days::same_key;
use super::due::{self, list_and_return};
use super::{Db, Result};
use crate::domain::reconcile::SLACK;

/// The publishing times that markers prove, per work queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proofs {
    pub retry: Option<DateTime<Utc>>,
    pub deliver: Option<DateTime<Utc>>,
}

/// A delivery that the broker has lost, as `posthaste reconcile` explains it.
#[derive(Debug, Clone, serde::Serialize, sqlx_macros::FromRow)]
pub struct Lost {
    pub event_id: Uuid,
    pub endpoint_id: Uuid,
    pub status: String,
    pub attempts: i32,
    pub due_at: DateTime<Utc>,
}

/// `domain::reconcile::is_lost` in SQL; a test holds the two against each other. The comparison with the proof of the
/// retry queue comes first, since the index of due deliveries answers it.
///
/// What is listed has a relay that publishes it, so it is not lost. Only for a while: should a listing be left over for some
/// reason, this is what finds its deliveries.
macro_rules! lost {
    () => {
        "status in ('pending', 'retrying')
         and next_attempt_at < $1::timestamptz - $3 * interval '1 second'
         and (attempts > 0 or next_attempt_at < $2::timestamptz - $3 * interval '1 second')
         and not exists (select from posthaste.relay_batches b
               where b.claimed_at > now() - interval '5 minutes' and event_id = any (b.event_ids))"
    };
}

pub async fn count(db: &Db, proofs: Proofs) -> Result<i64> {
    db.run(async |c| {
        sqlx::query_scalar(concat!("select count(*) from posthaste.deliveries where ", lost!()))
            .bind(proofs.retry)
            .bind(proofs.deliver)
            .bind(SLACK.as_secs_f64())
            .fetch_one(c)
            .await
    })
    .await
}

/// The lost deliveries that were due first.
pub async fn list(db: &Db, proofs: Proofs, limit: i64) -> Result<Vec<Lost>> {
    db.run(async |c| {
        sqlx::query_as(concat!(
            "select event_id, endpoint_id, status, attempts, next_attempt_at as due_at from posthaste.deliveries where ",
            lost!(),
            " order by next_attempt_at limit $4"
        ))
        .bind(proofs.retry)
        .bind(proofs.deliver)
        .bind(SLACK.as_secs_f64())
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .await
}

/// Makes up to `limit` lost deliveries due now, lists them under the relay, and returns the messages to publish. Nothing
/// else of a row changes: invalidating a copy that is in flight after all would never end when a request outlasts the
/// grace.
pub async fn republish(db: &Db, relay: i64, proofs: Proofs, limit: i64) -> Result<due::Batch> {
    let rows: Vec<due::Listed> = db
        .run(async |c| {
            sqlx::query_as(concat!(
                "with l as materialized (
                   select event_id, endpoint_id from posthaste.deliveries where ",
                lost!(),
                "   order by next_attempt_at limit $4 for update skip locked
                 ), u as (
                   update posthaste.deliveries d set next_attempt_at = now()
                     from l where ",
                same_key!("l"),
                "  returning d.event_id, d.endpoint_id, d.attempts, d.base_attempts, d.max_attempts)",
                list_and_return!(relay = "$5", due = "true", events = "posthaste.events")
            ))
            .bind(proofs.retry)
            .bind(proofs.deliver)
            .bind(SLACK.as_secs_f64())
            .bind(limit)
            .bind(relay)
            .fetch_all(c)
            .await
        })
        .await?;
    Ok(due::Batch::from(rows))
}
