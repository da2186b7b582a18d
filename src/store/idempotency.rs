//! Idempotency keys: registered by the outbox's trigger, removed here when they have expired.

use super::{Db, Result};

/// Keys removed with one statement: few, so that no transaction of a producer waits for long.
pub const BATCH: u64 = 1000;

/// Removes a batch of expired keys, and says how many that were.
pub async fn remove_expired(db: &Db) -> Result<u64> {
    let removed = db
        .run(async |c| {
            sqlx::query(
                "delete from posthaste.idempotency_keys where ctid = any (array(
                   select ctid from posthaste.idempotency_keys where expires_at < now()
                    order by expires_at limit $1 for update skip locked))",
            )
            .bind(BATCH as i64)
            .execute(c)
            .await
        })
        .await?;
    Ok(removed.rows_affected())
}
