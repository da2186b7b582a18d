//! Events: the record of what was emitted.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use sqlx::Arguments as _;
use sqlx::postgres::{PgArguments, PgBindIterExt};
use uuid::Uuid;

use super::slices::{Order, Slice, Slices};
use super::{Db, Result, days};
use crate::domain::ids;

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

/// The newest events that match. A slice at a time: for a filter that few events meet, much of the history may be read.
pub async fn list(db: &Db, filter: &Filter) -> Result<Vec<Event>> {
    let from = filter.since.map_or(Uuid::nil(), |since| ids::floor(since.timestamp_millis()));
    let mut slices = Slices::new(db, from, Uuid::max(), Order::NewestFirst).await?;
    let mut events = Vec::new();
    while (events.len() as i64) < filter.limit
        && let Some(slice) = slices.next(db).await?
    {
        let limit = filter.limit - events.len() as i64;
        events.extend(newest_of(db, filter, &slice, limit).await?);
    }
    Ok(events)
}

async fn newest_of(db: &Db, filter: &Filter, slice: &Slice, limit: i64) -> Result<Vec<Event>> {
    let arguments = || {
        let mut arguments = PgArguments::default();
        arguments.add(slice.from)?;
        arguments.add(slice.to)?;
        arguments.add(&filter.tenant)?;
        arguments.add(&filter.event_type)?;
        arguments.add(limit)?;
        Ok(arguments)
    };
    days::rows(db, Some(slice.day), NEWEST, &arguments).await
}

const NEWEST: &str = "
select id, tenant, event_type, idempotency_key, max_attempts, traceparent, created_at, published_at, matched,
       octet_length(payload::text) as payload_bytes
  from posthaste.events{day}
 where id >= $1 and id < $2 and ($3::text is null or tenant = $3) and ($4::text is null or event_type = $4)
 order by id desc limit $5";

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
