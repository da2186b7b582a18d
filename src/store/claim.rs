//! The claim: one statement moves a batch from the outbox to the record and fans it out to the matching endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use sqlx::FromRow;
use uuid::Uuid;

use super::{Db, Result};
use crate::domain::message::Message;

/// The persisted ceiling of attempts is the lower of emit's and the policy's, so the claim needs every policy's.
#[derive(Debug, Clone)]
pub struct Ceilings {
    pub default: i32,
    pub names: Vec<String>,
    pub values: Vec<i32>,
}

/// What one claim moved.
#[derive(Debug, Default)]
pub struct Batch {
    /// The row in `relay_batches` that lists the batch until the broker has confirmed all of it.
    pub id: Option<i64>,
    pub events: usize,
    pub highest: Option<Uuid>,
    /// Events that no endpoint matched: recorded, with nothing to publish.
    pub unmatched: usize,
    /// Rows whose id an earlier event had already used: kept in `set_aside`.
    pub set_aside: usize,
    /// The first attempts to publish, ordered by event id.
    pub messages: Vec<Message>,
}

#[derive(FromRow)]
struct Claimed {
    id: Uuid,
    tenant: String,
    event_type: String,
    payload: String,
    traceparent: Option<String>,
    recorded: bool,
    matched: i32,
    endpoint_ids: Option<Vec<Uuid>>,
    ceilings: Option<Vec<i32>>,
    batch_id: Option<i64>,
}

/// The outbox is read in the order of its key from `from` on, skipping rows that others hold. The delete goes by row
/// address, a plan that can never turn into a scan of the table. Matching, recording, fanning out and listing the batch
/// are in the same statement, so a row is either still in the outbox or completely moved.
const CLAIM: &str = "
with unlisted as (
  delete from posthaste.relay_batches where id = any ($6)
), c as (
  delete from posthaste.outbox where ctid = any (array(
    select ctid from posthaste.outbox where id >= $1 order by id limit $2 for update skip locked))
  returning id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at
), m as materialized (
  select c.id as event_id, ep.id as endpoint_id, least(c.max_attempts, coalesce(p.ceiling, $3)) as ceiling,
         case when ep.status = 'enabled' and ep.circuit_state = 'closed' then 'pending' else 'held' end as status
    from c
    join posthaste.endpoints ep on ep.tenant = c.tenant and c.event_type like any (ep.event_like)
    left join unnest($4::text[], $5::int[]) as p(name, ceiling) on p.name = ep.retry_policy
), e as (
  insert into posthaste.events
    (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at, matched)
  select c.id, c.tenant, c.event_type, c.payload, c.idempotency_key, c.max_attempts, c.traceparent, c.created_at,
         coalesce(n.matched, 0)
    from c left join (select event_id, count(*)::int as matched from m group by 1) n on n.event_id = c.id
  on conflict do nothing
  returning id, matched
), d as (
  insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts)
  select m.event_id, m.endpoint_id, m.status, m.ceiling from m join e on e.id = m.event_id
  returning event_id, endpoint_id, status, max_attempts
), aside as (
  insert into posthaste.set_aside
    (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at, error)
  select c.*, 'id: an earlier event has used this id already; give every event an id of its own'
    from c where not exists (select from e where e.id = c.id)
), b as (
  insert into posthaste.relay_batches (relay, event_ids)
  select $7, array_agg(d.event_id) from d where d.status = 'pending' having count(*) > 0
  returning id
)
select c.id, c.tenant, c.event_type, c.payload::text as payload, c.traceparent,
       e.id is not null as recorded, coalesce(e.matched, 0) as matched, p.endpoint_ids, p.ceilings,
       (select id from b) as batch_id
  from c
  left join e on e.id = c.id
  left join (select event_id, array_agg(endpoint_id) as endpoint_ids, array_agg(max_attempts) as ceilings
               from d where status = 'pending' group by 1) p on p.event_id = c.id";

/// Claims up to `limit` rows from `from` on, and forgets the batches that the broker has confirmed since.
pub async fn claim(
    db: &Db,
    relay: i64,
    from: Uuid,
    limit: i64,
    ceilings: &Ceilings,
    confirmed: &[i64],
) -> Result<Batch> {
    let claimed_ms = Utc::now().timestamp_millis();
    let rows: Vec<Claimed> = db
        .run(async |c| {
            sqlx::query_as(CLAIM)
                .bind(from)
                .bind(limit)
                .bind(ceilings.default)
                .bind(&ceilings.names)
                .bind(&ceilings.values)
                .bind(confirmed)
                .bind(relay)
                .fetch_all(c)
                .await
        })
        .await?;
    Ok(batch_of(rows, claimed_ms))
}

fn batch_of(rows: Vec<Claimed>, claimed_ms: i64) -> Batch {
    let mut batch = Batch { events: rows.len(), id: rows.first().and_then(|row| row.batch_id), ..Batch::default() };
    // The rows come back in the order of the heap; the broker shall get them in the order of their ids.
    let ordered: BTreeMap<Uuid, Claimed> = rows.into_iter().map(|row| (row.id, row)).collect();
    batch.highest = ordered.keys().next_back().copied();
    for row in ordered.into_values() {
        batch.unmatched += usize::from(row.recorded && row.matched == 0);
        batch.set_aside += usize::from(!row.recorded);
        batch.messages.extend(first_attempts(row, claimed_ms));
    }
    batch
}

fn first_attempts(row: Claimed, claimed_ms: i64) -> impl Iterator<Item = Message> {
    let body = Bytes::from(row.payload);
    let (tenant, event_type): (Arc<str>, Arc<str>) = (row.tenant.into(), row.event_type.into());
    let traceparent: Option<Arc<str>> = row.traceparent.map(Into::into);
    let endpoints = row.endpoint_ids.unwrap_or_default();
    endpoints.into_iter().zip(row.ceilings.unwrap_or_default()).map(move |(endpoint_id, max_attempts)| Message {
        event_id: row.id,
        endpoint_id,
        tenant: tenant.clone(),
        event_type: event_type.clone(),
        body: body.clone(),
        attempt: 1,
        max_attempts,
        base_attempts: 0,
        traceparent: traceparent.clone(),
        claimed_ms: Some(claimed_ms),
    })
}
