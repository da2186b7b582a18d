//! The claim: one statement moves a batch from the outbox to the record and fans it out to the matching endpoints.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use sqlx::FromRow;
use uuid::Uuid;

use super::{Db, Result};
use crate::domain::message::Message;
use crate::domain::turns::{Ask, Found, From, TURN, Taken};

/// The most that one claim takes: bytes of payloads, and deliveries made of them. One row is always taken.
const BYTES: i64 = 32 * 1024 * 1024;
const DELIVERIES: i64 = 2_000;
/// Pairs of an event and an endpoint of its tenant that one claim compares. One row is always compared with all.
const PAIRS: i64 = 20_000;

/// The persisted ceiling of attempts is the lower of emit's and the policy's, so the claim needs every policy's.
#[derive(Debug, Clone)]
pub struct Ceilings {
    pub default: i32,
    pub names: Vec<String>,
    pub values: Vec<i32>,
}

/// What one relay asks for, beside whose turn it is.
pub struct Claim<'a> {
    pub relay: i64,
    pub ask: &'a Ask,
    /// Tenants of which nothing is taken.
    pub without: &'a [String],
    pub ceilings: &'a Ceilings,
    /// Batches that the broker has confirmed: they are forgotten.
    pub confirmed: &'a [i64],
    /// Endpoints that are behind: their deliveries are written as held, after those that wait already.
    pub behind: &'a [Uuid],
}

/// What one claim moved.
#[derive(Debug, Default)]
pub struct Batch {
    /// The row in `relay_batches` that lists the batch until the broker has confirmed all of it.
    pub id: Option<i64>,
    pub events: usize,
    pub found: Found,
    /// Events that no endpoint matched: recorded, with nothing to publish.
    pub unmatched: usize,
    /// Rows whose id an earlier event had already used: kept in `set_aside`.
    pub set_aside: usize,
    /// The first attempts to publish, ordered by event id.
    pub messages: Vec<Message>,
}

/// Every line tells what the claim found; without a row it is the only one.
#[derive(FromRow)]
struct Line {
    last: Option<String>,
    clock_ms: i64,
    batch_id: Option<i64>,
    id: Option<Uuid>,
    #[sqlx(flatten)]
    row: Claimed,
}

#[derive(FromRow)]
struct Claimed {
    tenant: Option<String>,
    place: Option<i64>,
    event_type: Option<String>,
    payload: Option<String>,
    traceparent: Option<String>,
    recorded: Option<bool>,
    matched: Option<i32>,
    endpoint_ids: Option<Vec<Uuid>>,
    ceilings: Option<Vec<i32>>,
}

/// All tenants with rows from the one after `$1` on, and round. Each step is one descent of the index, so this costs what
/// the tenants that it returns cost, however many rows they have.
macro_rules! everyone {
    () => {
        "ahead as (
  (select o.tenant collate \"C\" as tenant from posthaste.outbox o where o.tenant collate \"C\" > $1
    order by o.tenant collate \"C\" limit 1)
  union all
  select (select o.tenant collate \"C\" from posthaste.outbox o where o.tenant collate \"C\" > a.tenant
           order by o.tenant collate \"C\" limit 1)
    from ahead a where a.tenant is not null
), again as (
  (select o.tenant collate \"C\" as tenant from posthaste.outbox o where o.tenant collate \"C\" <= $1
    order by o.tenant collate \"C\" limit 1)
  union all
  select (select o.tenant collate \"C\" from posthaste.outbox o
           where o.tenant collate \"C\" > a.tenant and o.tenant collate \"C\" <= $1
           order by o.tenant collate \"C\" limit 1)
    from again a where a.tenant is not null
), w as (
  select y.tenant, '00000000-0000-0000-0000-000000000000'::uuid as bound
    from (select tenant from ahead union all select tenant from again) y
   where y.tenant is not null and y.tenant <> all ($2) limit $3
)"
    };
}

/// The given tenants that have rows from their bounds on, and before them those that the latest events belong to: they
/// may never have been seen.
macro_rules! known {
    () => {
        "w as (
  select y.tenant, y.bound from (
    (select distinct on (l.tenant) l.tenant, l.id as bound from (
      select o.tenant collate \"C\" as tenant, o.id from posthaste.outbox o
       where o.id >= posthaste.uuid_v7_floor(now() - interval '500 ms')
         and o.id < posthaste.uuid_v7_floor(now() + interval '500 ms')
       order by o.id limit 50) l
     where l.tenant <> all ($15) and l.tenant <> all ($2) order by l.tenant, l.id)
    union all
    select k.tenant, k.bound from unnest($15::text[], $16::uuid[]) with ordinality as k(tenant, bound, place)
     where (select true from posthaste.outbox o
             where (o.tenant collate \"C\", o.id) >= (k.tenant, k.bound) and o.tenant collate \"C\" <= k.tenant limit 1)
  ) y limit $3
)"
    };
}

/// One row, by the tenant and the id given.
macro_rules! one {
    () => {
        "w as (select k.tenant, k.bound from unnest($15::text[], $16::uuid[]) as k(tenant, bound) limit 1)"
    };
}

/// Tenants are visited one after the other in the index, skipping rows that others hold; the bound as a comparison of rows
/// keeps the planner from reading the whole outbox by id instead. What is too much for one batch is cut in the order of
/// turns. The delete goes by row address, a plan that can never turn into a scan of the table. Matching, recording, fanning
/// out and listing the batch are in the same statement, so a row is either still in the outbox or completely moved.
macro_rules! claim {
    ($tenants:expr) => {
        concat!(
            "with recursive unlisted as (
  delete from posthaste.relay_batches where id = any ($12)
), ",
            $tenants,
            ", t as materialized (
  select w.*, row_number() over () as place,
         (select greatest(count(*), 1)::int from (
            select from posthaste.endpoints ep where ep.tenant = w.tenant limit 5000) n) as endpoints
    from w
), q as (
  select (case when count(*) = 1 then $4 else $5 end)::int as each, (case when count(*) = 1 then $4 else $6 end)::int as rows
    from t
), s as materialized (
  select k.*, row_number() over turn as n, sum(k.size) over turn as bytes, sum(k.endpoints) over turn as pairs
    from (select t.place, t.endpoints, r.*
            from t cross join lateral (
              select l.*, row_number() over () as nth from (
                select o.ctid as at, o.id, o.tenant, o.event_type, o.max_attempts,
                       case when pg_column_compression(o.payload) is null then pg_column_size(o.payload)
                            else octet_length(o.payload::text) end as size
                  from posthaste.outbox o
                 where (o.tenant collate \"C\", o.id) >= (t.tenant, t.bound) and o.tenant collate \"C\" <= t.tenant
                 order by o.tenant collate \"C\", o.id limit (select each from q) for update skip locked) l) r) k
  window turn as (order by (k.nth - 1) / $7, k.place, k.nth rows unbounded preceding)
), f as materialized (
  select s.* from s where s.n = 1 or (s.n <= (select rows from q) and s.bytes <= $8 and s.pairs <= $9)
), m as materialized (
  select f.id as event_id, ep.id as endpoint_id, least(f.max_attempts, coalesce(p.ceiling, $10)) as ceiling,
         case when ep.status = 'enabled' and ep.circuit_state = 'closed' and ep.id <> all ($17)
              then 'pending' else 'held' end as status
    from f
    join posthaste.endpoints ep on ep.tenant = f.tenant and f.event_type like any (ep.event_like)
    left join unnest($11::text[], $18::int[]) as p(name, ceiling) on p.name = ep.retry_policy
), x as materialized (
  select f.id, f.at, f.n, f.place, coalesce(j.matched, 0) as matched,
         sum(coalesce(j.matched, 0)) over (order by f.n rows unbounded preceding) as deliveries
    from f left join (select event_id, count(*)::int as matched from m group by 1) j on j.event_id = f.id
), c as (
  delete from posthaste.outbox
   where ctid = any (array(select x.at from x where x.n = 1 or x.deliveries <= $13))
  returning id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at
), e as (
  insert into posthaste.events
    (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at, matched)
  select c.id, c.tenant, c.event_type, c.payload, c.idempotency_key, c.max_attempts, c.traceparent, c.created_at,
         x.matched
    from c join x on x.id = c.id
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
  select $14, array_agg(distinct d.event_id) from d where d.status = 'pending' having count(*) > 0
  returning id
)
select (select t.tenant from t order by t.place desc limit 1) as last,
       (extract(epoch from clock_timestamp()) * 1000)::int8 as clock_ms, (select id from b) as batch_id,
       c.id, c.tenant, x.place, c.event_type, c.payload::text as payload, c.traceparent,
       e.id is not null as recorded, e.matched, p.endpoint_ids, p.ceilings
  from (select) as always
  left join c on true
  left join x on x.id = c.id
  left join e on e.id = c.id
  left join (select event_id, array_agg(endpoint_id) as endpoint_ids, array_agg(max_attempts) as ceilings
               from d where status = 'pending' group by 1) p on p.event_id = c.id"
        )
    };
}

const OF_EVERYONE: &str = claim!(everyone!());
const OF_KNOWN: &str = claim!(known!());
const OF_ONE: &str = claim!(one!());

/// The values of a statement, in their order.
macro_rules! bound {
    ($query:expr, $claim:expr) => {{
        let (after, known) = match &$claim.ask.from {
            From::Everyone { after } => (after.as_str(), &[][..]),
            From::Known(known) => ("", known.as_slice()),
            From::Row(row) => ("", std::slice::from_ref(row)),
        };
        let (tenants, bounds): (Vec<&str>, Vec<Uuid>) = known.iter().map(|(tenant, id)| (tenant.as_str(), *id)).unzip();
        $query
            .bind(after)
            .bind($claim.without)
            .bind(i64::from($claim.ask.tenants))
            .bind(number($claim.ask.alone))
            .bind(number($claim.ask.each))
            .bind(number($claim.ask.together))
            .bind(number(TURN))
            .bind(BYTES)
            .bind(PAIRS)
            .bind($claim.ceilings.default)
            .bind(&$claim.ceilings.names)
            .bind($claim.confirmed)
            .bind(DELIVERIES)
            .bind($claim.relay)
            .bind(tenants)
            .bind(bounds)
            .bind($claim.behind)
            .bind(&$claim.ceilings.values)
    }};
}

/// Claims what is asked for, and forgets the batches that the broker has confirmed since.
pub async fn claim(db: &Db, claim: Claim<'_>) -> Result<Batch> {
    let claimed_ms = Utc::now().timestamp_millis();
    let statement = match claim.ask.from {
        From::Everyone { .. } => OF_EVERYONE,
        From::Known(_) => OF_KNOWN,
        From::Row(_) => OF_ONE,
    };
    let lines: Vec<Line> = db.run(async |c| bound!(sqlx::query_as(statement), claim).fetch_all(c).await).await?;
    Ok(batch_of(lines, claimed_ms))
}

/// How the database carries a claim out, with the rows that each step has read. For tests: like any other claim it moves
/// what it finds.
pub async fn explain(db: &Db, claim: Claim<'_>) -> Result<Vec<String>> {
    macro_rules! explained {
        ($tenants:expr) => {
            concat!("explain (analyze, costs off, timing off) ", claim!($tenants))
        };
    }
    let statement = match claim.ask.from {
        From::Everyone { .. } => explained!(everyone!()),
        From::Known(_) => explained!(known!()),
        From::Row(_) => explained!(one!()),
    };
    db.run(async |c| bound!(sqlx::query_scalar(statement), claim).fetch_all(c).await).await
}

fn number(value: u32) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}

fn batch_of(lines: Vec<Line>, claimed_ms: i64) -> Batch {
    let mut batch = Batch::default();
    if let Some(line) = lines.first() {
        batch.id = line.batch_id;
        batch.found.last = line.last.clone();
        batch.found.clock_ms = line.clock_ms;
    }
    // The rows come back in the order of the heap; the broker shall get them in the order of their ids.
    let ordered: BTreeMap<Uuid, Claimed> = lines.into_iter().filter_map(|line| Some((line.id?, line.row))).collect();
    batch.events = ordered.len();
    batch.found.taken = taken(&ordered);
    for (id, row) in ordered {
        let recorded = row.recorded.unwrap_or_default();
        let matched = row.matched.unwrap_or_default();
        batch.found.deliveries += matched.max(0) as usize;
        batch.unmatched += usize::from(recorded && matched == 0);
        batch.set_aside += usize::from(!recorded);
        batch.messages.extend(first_attempts(id, row, claimed_ms));
    }
    batch
}

fn taken(rows: &BTreeMap<Uuid, Claimed>) -> Vec<Taken> {
    let mut by_place: BTreeMap<i64, Taken> = BTreeMap::new();
    for (id, row) in rows {
        let (Some(place), Some(tenant)) = (row.place, &row.tenant) else { continue };
        let taken = by_place.entry(place).or_insert_with(|| Taken { tenant: tenant.clone(), rows: 0, highest: *id });
        taken.rows += 1;
        taken.highest = *id;
    }
    by_place.into_values().collect()
}

fn first_attempts(event_id: Uuid, row: Claimed, claimed_ms: i64) -> impl Iterator<Item = Message> {
    let body = Bytes::from(row.payload.unwrap_or_default());
    let (tenant, event_type): (Arc<str>, Arc<str>) =
        (row.tenant.unwrap_or_default().into(), row.event_type.unwrap_or_default().into());
    let traceparent: Option<Arc<str>> = row.traceparent.map(Into::into);
    let endpoints = row.endpoint_ids.unwrap_or_default();
    endpoints.into_iter().zip(row.ceilings.unwrap_or_default()).map(move |(endpoint_id, max_attempts)| Message {
        event_id,
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
