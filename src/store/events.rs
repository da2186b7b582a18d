//! Events: the record of what was emitted.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, Result};
use crate::domain::ids;

#[derive(Debug, Clone, serde::Serialize, sqlx::FromRow)]
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
}

/// One event, from the record or from the outbox.
pub async fn get(db: &Db, id: Uuid) -> Result<Option<Event>> {
    db.run(async |c| {
        sqlx::query_as(
            "select id, tenant, event_type, idempotency_key, max_attempts, traceparent, created_at, published_at,
                    matched, octet_length(payload::text) as payload_bytes
               from posthaste.events where id = $1
             union all
             select id, tenant, event_type, idempotency_key, max_attempts, traceparent, created_at, null, 0,
                    octet_length(payload::text)
               from posthaste.outbox where id = $1
             limit 1",
        )
        .bind(id)
        .fetch_optional(c)
        .await
    })
    .await
}

#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub tenant: Option<String>,
    pub event_type: Option<String>,
    pub since: Option<DateTime<Utc>>,
    pub limit: i64,
}

/// The newest events that match.
pub async fn list(db: &Db, filter: &Filter) -> Result<Vec<Event>> {
    let from = filter.since.map_or(Uuid::nil(), |since| ids::floor(since.timestamp_millis()));
    db.run(async |c| {
        sqlx::query_as(
            "select id, tenant, event_type, idempotency_key, max_attempts, traceparent, created_at, published_at,
                    matched, octet_length(payload::text) as payload_bytes
               from posthaste.events
              where id >= $1 and ($2::text is null or tenant = $2) and ($3::text is null or event_type = $3)
              order by id desc limit $4",
        )
        .bind(from)
        .bind(&filter.tenant)
        .bind(&filter.event_type)
        .bind(filter.limit)
        .fetch_all(c)
        .await
    })
    .await
}
