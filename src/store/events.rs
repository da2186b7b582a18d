//! Events: the record of what was emitted.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::Arguments as _;
use sqlx::postgres::{PgArguments, PgBindIterExt};
use uuid::Uuid;

use super::{Db, Result, days};

#[derive(Debug, Clone, serde::Serialize, sqlx_macros::FromRow)]
pub struct Event {
    pub id: Uuid,
    pub tenant: String,
    pub event_type: String,
    pub idempotency_key: Option<String>,
    pub max_attempts: Option<i32>,
    pub traceparent: Option<String>,
    pub created_at: DateTime<Utc>,
    /// When the relay took it on; null while it is still in the outbox.
    pub published_at: Option<DateTime<Utc>>,
    /// How many endpoints matched; 0 is recorded, with nothing to deliver.
    pub matched: i32,
    pub payload_bytes: i32,
    /// When its payload was erased: it is null since.
    pub erased_at: Option<DateTime<Utc>>,
}

/// One event, from the record or from the outbox.
pub async fn get(db: &Db, id: Uuid) -> Result<Option<Event>> {
    db.run(async |c| {
        sqlx::query_as(
            "select id, tenant, event_type, idempotency_key, max_attempts, traceparent, created_at, published_at,
                    matched, octet_length(payload::text) as payload_bytes, erased_at
               from posthaste.events where id = $1
             union all
             select id, tenant, event_type, idempotency_key, max_attempts, traceparent, created_at, null, 0,
                    octet_length(payload::text), null
               from posthaste.outbox where id = $1
             limit 1",
        )
        .bind(id)
        .fetch_optional(c)
        .await
    })
    .await
}

/// One event's payload as the producer wrote it, from the record or from the outbox; none if it was erased.
pub async fn payload(db: &Db, id: Uuid) -> Result<Option<String>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "select payload::text from posthaste.events where id = $1 and erased_at is null
             union all select payload::text from posthaste.outbox where id = $1 limit 1",
        )
        .bind(id)
        .fetch_optional(c)
        .await
    })
    .await
}

/// The payloads of recorded events, byte for byte; an event that is not there, or was erased, has none.
pub async fn payloads(db: &Db, ids: &[Uuid]) -> Result<HashMap<Uuid, Bytes>> {
    let distinct: BTreeSet<Uuid> = ids.iter().copied().collect();
    let arguments = || {
        let mut arguments = PgArguments::default();
        arguments.add(distinct.iter().copied().bind_iter())?;
        Ok(arguments)
    };
    let day = days::only_day(distinct.iter().copied());
    let rows: Vec<(Uuid, String)> = days::rows(db, day, PAYLOADS, &arguments).await?;
    Ok(rows.into_iter().map(|(id, payload)| (id, Bytes::from(payload))).collect())
}

/// Compared as deliveries are with keys (`days::same_key`).
const PAYLOADS: &str = "select e.id, e.payload::text
  from unnest($1::uuid[]) as k(id) join posthaste.events{day} e on e.id = any (array[k.id])
 where e.erased_at is null";
