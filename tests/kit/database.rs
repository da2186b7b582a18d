//! Asking the database how far the work has got.

use sqlx::PgPool;

/// What no relay has moved yet, and batches that the broker has not confirmed.
pub async fn unmoved(db: &PgPool) -> sqlx::Result<i64> {
    let left = "select (select count(*) from posthaste.outbox) + (select count(*) from posthaste.relay_batches)";
    sqlx::query_scalar(left).fetch_one(db).await
}

/// That, and deliveries that are neither delivered nor dead: of one snapshot, in which nothing is between two places.
pub async fn unfinished(db: &PgPool) -> sqlx::Result<i64> {
    let open = "select (select count(*) from posthaste.outbox) + (select count(*) from posthaste.relay_batches)
        + (select count(*) from posthaste.deliveries where status in ('pending', 'retrying', 'held'))";
    sqlx::query_scalar(open).fetch_one(db).await
}
