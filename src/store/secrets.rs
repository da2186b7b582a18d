//! Signing keys, sealed. During a rotation the old ones of the same kind stay live until their grace ends.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, Result};

/// A new key on its way into the database.
#[derive(Debug)]
pub struct Sealed {
    /// `whsec` or `whsk`.
    pub kind: &'static str,
    /// Which encryption key made the ciphertext.
    pub key_id: String,
    pub ciphertext: Vec<u8>,
    pub public_key: Option<String>,
}

/// A key that signs now, as operators read it.
#[derive(Debug, Clone, sqlx_macros::FromRow)]
pub struct Live {
    pub kind: String,
    pub public_key: Option<String>,
    pub expires_at: Option<DateTime<Utc>>,
}

/// Adds a new live key and lets the older ones of its kind end after the grace. One statement: there is always a live one.
pub async fn rotate(db: &Db, endpoint: Uuid, new: &Sealed, grace: Duration) -> Result<u64> {
    let expired = db
        .run(async |c| {
            sqlx::query(
                "with old as (
                   update posthaste.endpoint_secrets set expires_at = now() + $4 * interval '1 second'
                    where endpoint_id = $1 and kind = $2 and (expires_at is null or expires_at > now() + $4 * interval '1 second')),
                 gone as (delete from posthaste.endpoint_secrets where endpoint_id = $1 and expires_at <= now())
                 insert into posthaste.endpoint_secrets (endpoint_id, kind, key_id, key_ciphertext, public_key)
                 values ($1, $2, $3, $5, $6)",
            )
            .bind(endpoint)
            .bind(new.kind)
            .bind(&new.key_id)
            .bind(grace.as_secs_f64())
            .bind(&new.ciphertext)
            .bind(&new.public_key)
            .execute(c)
            .await
        })
        .await?;
    Ok(expired.rows_affected())
}

/// What signs now, newest first.
pub async fn live(db: &Db, endpoint: Uuid) -> Result<Vec<Live>> {
    db.run(async |c| {
        sqlx::query_as(
            "select kind, public_key, expires_at from posthaste.endpoint_secrets
              where endpoint_id = $1 and (expires_at is null or expires_at > now()) order by id desc",
        )
        .bind(endpoint)
        .fetch_all(c)
        .await
    })
    .await
}

/// Ends the keys of this kind at once, where another kind signs. Returns how many.
pub async fn end(db: &Db, endpoint: Uuid, kind: &str) -> Result<u64> {
    let ended = db
        .run(async |c| {
            sqlx::query(
                "delete from posthaste.endpoint_secrets
                  where endpoint_id = $1 and kind = $2
                    and exists (select from posthaste.endpoint_secrets o where o.endpoint_id = $1 and o.kind <> $2
                                   and (o.expires_at is null or o.expires_at > now()))",
            )
            .bind(endpoint)
            .bind(kind)
            .execute(c)
            .await
        })
        .await?;
    Ok(ended.rows_affected())
}
