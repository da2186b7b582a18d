//! Signing secrets, sealed. During a rotation the old ones stay live until their grace ends.

use std::time::Duration;

use uuid::Uuid;

use super::{Db, Result};

/// Adds a new live secret and lets the older ones end after the grace. One statement: there is always a live secret.
pub async fn rotate(db: &Db, endpoint: Uuid, key_id: &str, sealed: &[u8], grace: Duration) -> Result<u64> {
    let expired = db
        .run(async |c| {
            sqlx::query(
                "with old as (
                   update posthaste.endpoint_secrets set expires_at = now() + $4 * interval '1 second'
                    where endpoint_id = $1 and (expires_at is null or expires_at > now() + $4 * interval '1 second')),
                 gone as (delete from posthaste.endpoint_secrets where endpoint_id = $1 and expires_at <= now())
                 insert into posthaste.endpoint_secrets (endpoint_id, kind, key_id, key_ciphertext)
                 values ($1, 'whsec', $2, $3)",
            )
            .bind(endpoint)
            .bind(key_id)
            .bind(sealed)
            .bind(grace.as_secs_f64())
            .execute(c)
            .await
        })
        .await?;
    Ok(expired.rows_affected())
}

/// How many secrets sign now.
pub async fn live(db: &Db, endpoint: Uuid) -> Result<i64> {
    db.run(async |c| {
        sqlx::query_scalar(
            "select count(*) from posthaste.endpoint_secrets
              where endpoint_id = $1 and (expires_at is null or expires_at > now())",
        )
        .bind(endpoint)
        .fetch_one(c)
        .await
    })
    .await
}

/// A key that has sealed secrets here, if this one has not and others have: the one used last.
pub async fn another_key(db: &Db, key_id: &str) -> Result<Option<String>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "select s.key_id from posthaste.endpoint_secrets s
              where not exists (select from posthaste.endpoint_secrets o where o.key_id = $1)
              order by s.id desc limit 1",
        )
        .bind(key_id)
        .fetch_optional(c)
        .await
    })
    .await
}
