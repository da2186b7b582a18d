//! Idempotency keys: registered by the outbox's trigger, removed here when they have expired.

use super::{Db, Result};

/// Keys removed with one statement.
const BATCH: i64 = 1000;
/// Statements in one go; the rest waits for the next.
const BATCHES: usize = 100;

/// Removes expired keys in small batches, so that no transaction of a producer waits for long.
pub async fn remove_expired(db: &Db) -> Result<u64> {
    let mut removed = 0;
    for _ in 0..BATCHES {
        let batch = db
            .run(async |c| {
                sqlx::query(
                    "delete from posthaste.idempotency_keys where ctid = any (array(
                       select ctid from posthaste.idempotency_keys where expires_at < now()
                        order by expires_at limit $1 for update skip locked))",
                )
                .bind(BATCH)
                .execute(c)
                .await
            })
            .await?
            .rows_affected();
        removed += batch;
        if batch < BATCH as u64 {
            break;
        }
    }
    Ok(removed)
}
