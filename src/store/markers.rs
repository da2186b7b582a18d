//! Markers that came through a work queue.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{Db, Result};

/// The time of a marker that is about to be published: the database's clock, or, while a relay has had messages to publish
/// for longer than `domain::reconcile::SLACK` covers, the time from which on they are due. What was due earlier is in its
/// queue, so the marker goes behind it.
pub async fn now(db: &Db) -> Result<DateTime<Utc>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "select coalesce(min(claimed_at), clock_timestamp()) from posthaste.relay_batches
              where claimed_at > now() - interval '5 minutes' and claimed_at < now() - interval '2 seconds'",
        )
        .fetch_one(c)
        .await
    })
    .await
}

/// Records a marker on its arrival and returns how long it was under way. One that arrives again changes nothing.
pub async fn record(db: &Db, queue: &str, published_at: DateTime<Utc>) -> Result<Option<f64>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "insert into posthaste.markers (queue, published_at, recorded_at) values ($1, $2, clock_timestamp())
             on conflict do nothing
             returning extract(epoch from recorded_at - published_at)::float8",
        )
        .bind(queue)
        .bind(published_at)
        .fetch_optional(c)
        .await
    })
    .await
}

pub async fn is_recorded(db: &Db, queue: &str, published_at: DateTime<Utc>) -> Result<bool> {
    db.run(async |c| {
        sqlx::query_scalar("select exists (select from posthaste.markers where queue = $1 and published_at = $2)")
            .bind(queue)
            .bind(published_at)
            .fetch_one(c)
            .await
    })
    .await
}

/// The newest publishing time that the queue's markers prove (`domain::reconcile::proof`).
pub async fn proof(db: &Db, queue: &str, grace: Duration) -> Result<Option<DateTime<Utc>>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "select max(published_at) from posthaste.markers
              where queue = $1 and recorded_at + $2 * interval '1 second' <= now()",
        )
        .bind(queue)
        .bind(grace.as_secs_f64())
        .fetch_one(c)
        .await
    })
    .await
}

/// Forgets markers that newer ones have made worthless; those within the grace and the newest beyond it stay.
pub async fn prune(db: &Db, keep: Duration) -> Result<()> {
    db.run(async |c| {
        sqlx::query(
            "delete from posthaste.markers m
              where recorded_at < now() - $1 * interval '1 second'
                and exists (select from posthaste.markers n
                             where n.queue = m.queue and n.published_at > m.published_at
                               and n.recorded_at < now() - $1 * interval '1 second')",
        )
        .bind(keep.as_secs_f64())
        .execute(c)
        .await
        .map(drop)
    })
    .await
}
