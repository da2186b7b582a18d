//! Attempts that were begun and never ended, of messages that the broker has handed out several times.

use super::{Db, Result};
use crate::domain::ids::DeliveryKey;

/// How many attempts number `n` of the delivery were begun and did not end.
pub async fn unfinished(db: &Db, key: DeliveryKey, n: i32) -> Result<u32> {
    let unfinished: Option<i32> = db
        .run(async |c| {
            sqlx::query_scalar(
                "select unfinished from posthaste.suspects where event_id = $1 and endpoint_id = $2 and attempt = $3",
            )
            .bind(key.event_id)
            .bind(key.endpoint_id)
            .bind(n)
            .fetch_optional(c)
            .await
        })
        .await?;
    Ok(unfinished.unwrap_or(0).unsigned_abs())
}

/// To be committed before the request is made. Returns how many attempts have now been begun and not ended. Repeated after
/// an answer was lost, it counts one too many, which only makes a suspect tried alone sooner.
pub async fn begin(db: &Db, key: DeliveryKey, n: i32) -> Result<u32> {
    let unfinished: i32 = db
        .run(async |c| {
            sqlx::query_scalar(
                "insert into posthaste.suspects as s (event_id, endpoint_id, attempt) values ($1, $2, $3)
             on conflict (event_id, endpoint_id) do update
                set unfinished = case when s.attempt = excluded.attempt then s.unfinished + 1 else 1 end,
                    attempt = excluded.attempt, updated_at = now()
             returning unfinished",
            )
            .bind(key.event_id)
            .bind(key.endpoint_id)
            .bind(n)
            .fetch_one(c)
            .await
        })
        .await?;
    Ok(unfinished.unsigned_abs())
}

/// The request has ended and the worker lives, or the delivery is dead.
pub async fn end(db: &Db, key: DeliveryKey) -> Result<()> {
    db.run(async |c| {
        sqlx::query("delete from posthaste.suspects where event_id = $1 and endpoint_id = $2")
            .bind(key.event_id)
            .bind(key.endpoint_id)
            .execute(c)
            .await
    })
    .await
    .map(drop)
}

/// The attempt was begun and is abandoned by a worker that lives: as if it had not been begun.
pub async fn take_back(db: &Db, key: DeliveryKey, n: i32) -> Result<()> {
    db.run(async |c| {
        sqlx::query(
            "with first as (
               delete from posthaste.suspects
                where event_id = $1 and endpoint_id = $2 and attempt = $3 and unfinished <= 1)
             update posthaste.suspects set unfinished = unfinished - 1
              where event_id = $1 and endpoint_id = $2 and attempt = $3 and unfinished > 1",
        )
        .bind(key.event_id)
        .bind(key.endpoint_id)
        .bind(n)
        .execute(c)
        .await
    })
    .await
    .map(drop)
}

/// Of deliveries that another worker has ended long ago.
pub async fn remove_old(db: &Db) -> Result<u64> {
    let removed = db
        .run(async |c| {
            sqlx::query("delete from posthaste.suspects where updated_at < now() - interval '1 day'").execute(c).await
        })
        .await?;
    Ok(removed.rows_affected())
}
