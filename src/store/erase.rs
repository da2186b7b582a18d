//! Erasing: payloads, headers and answers go, rows and counts stay. Batch by batch, each step before the next one, so that whatever
//! is killed can be run again: first nothing more can be sent or recorded, then what was recorded goes, and at last the payload.

use sqlx::postgres::{PgArguments, PgBindIterExt};
use sqlx::{Arguments as _, AssertSqlSafe};
use uuid::Uuid;

use super::days::{self, Day};
use super::slices::Slice;
use super::{Conn, Db, Result};

/// Events of one batch.
pub const BATCH: i64 = 200;

/// What is to be erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Event(Uuid),
    Tenant(String),
    /// What one endpoint was sent and has answered; payloads only of events that went to no other.
    Endpoint(Uuid),
}

impl Target {
    pub fn kind(&self) -> &'static str {
        match self {
            Target::Event(_) => "event",
            Target::Tenant(_) => "tenant",
            Target::Endpoint(_) => "endpoint",
        }
    }

    pub fn value(&self) -> String {
        match self {
            Target::Event(id) | Target::Endpoint(id) => id.to_string(),
            Target::Tenant(tenant) => tenant.clone(),
        }
    }

    fn endpoint(&self) -> Option<Uuid> {
        match self {
            Target::Endpoint(id) => Some(*id),
            Target::Event(_) | Target::Tenant(_) => None,
        }
    }
}

/// How much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Erased {
    pub events: i64,
    pub from_outbox: i64,
    pub set_aside: i64,
    /// Deliveries that were unfinished.
    pub ended: i64,
    /// Deliveries that were dead.
    pub dead: i64,
    pub attempts: i64,
    /// Dead letters taken out of the broker.
    pub dead_letters: i64,
}

/// The next events of a slice that are meant, in order. `None` for all of them: a batch of the slice is empty.
pub async fn next(db: &Db, target: &Target, slice: &Slice) -> Result<Vec<Uuid>> {
    const OF_TENANT: &str = "select id from posthaste.events{day}
        where id >= $1 and id < $2 and tenant collate \"C\" = $3 and erased_at is null order by id limit $4";
    const OF_ENDPOINT: &str = "select event_id from posthaste.deliveries{day}
        where event_id >= $1 and event_id < $2 and endpoint_id = $3 order by event_id limit $4";
    let template = match target {
        Target::Event(id) => return Ok(vec![*id]),
        Target::Tenant(_) => OF_TENANT,
        Target::Endpoint(_) => OF_ENDPOINT,
    };
    let arguments = || {
        let mut arguments = PgArguments::default();
        arguments.add(slice.from)?;
        arguments.add(slice.to)?;
        match target {
            Target::Tenant(tenant) => arguments.add(tenant)?,
            Target::Event(id) | Target::Endpoint(id) => arguments.add(id)?,
        }
        arguments.add(BATCH)?;
        Ok(arguments)
    };
    let ids: Vec<(Uuid,)> = days::rows(db, slice.day(), template, &arguments).await?;
    Ok(ids.into_iter().map(|(id,)| id).collect())
}

/// Erases these events of one day, as far as the target means them.
pub async fn batch(db: &Db, target: &Target, day: Day, events: &[Uuid]) -> Result<Erased> {
    let counted = async |template: &'static str| -> Result<(i64, i64)> {
        let arguments = || {
            let mut arguments = PgArguments::default();
            arguments.add(events.iter().copied().bind_iter())?;
            arguments.add(target.endpoint())?;
            Ok(arguments)
        };
        let counts: Vec<(i64, i64)> = days::rows(db, Some(day), template, &arguments).await?;
        Ok(counts.first().copied().unwrap_or_default())
    };
    let (ended, dead) = counted(END).await?;
    let (attempts, _) = counted(ATTEMPTS).await?;
    let (erased, _) = counted(PAYLOADS).await?;
    Ok(Erased { events: erased, ended, dead, attempts, ..Erased::default() })
}

/// An attempt that is being recorded meanwhile has the row locked; after this, none can be recorded any more. Rows are locked in the
/// order of their keys, as settling does.
const END: &str = "
with old as materialized (
  select d.event_id, d.endpoint_id, d.status from posthaste.deliveries{day} d
   where d.event_id = any ($1) and ($2::uuid is null or d.endpoint_id = $2)
     and coalesce(d.status, '') <> 'delivered' and d.dead_reason is distinct from 'erased'
   order by 1, 2 for no key update
), u as (
  update posthaste.deliveries{day} d
     set status = 'dead', dead_reason = 'erased', next_attempt_at = null, updated_at = now()
    from old where d.event_id = any (array[old.event_id]) and d.endpoint_id = old.endpoint_id
  returning old.status)
select count(*) filter (where status <> 'dead'), count(*) filter (where status = 'dead') from u";

const ATTEMPTS: &str = "
with u as (
  update posthaste.attempts{day} set request_headers = null, response_headers = null, response_body = null
   where event_id = any ($1) and ($2::uuid is null or endpoint_id = $2)
     and (request_headers is not null or response_headers is not null or response_body is not null)
  returning 1)
select count(*), 0::int8 from u";

/// What went to other endpoints too is theirs.
const PAYLOADS: &str = "
with u as (
  update posthaste.events{day} e set payload = 'null', erased_at = now()
   where e.id = any ($1) and e.erased_at is null
     and ($2::uuid is null or not exists (
           select from posthaste.deliveries{day} o where o.event_id = e.id and o.endpoint_id <> $2))
  returning 1)
select count(*), 0::int8 from u";

/// Events that no relay has moved yet are recorded as erased, at most a batch of them. 0: there are none any more, or a relay has just
/// moved them. What an endpoint may get of them is not known yet.
pub async fn outbox(db: &Db, target: &Target) -> Result<i64> {
    const OF_EVENT: &str = "o.id = $1::text::uuid";
    const OF_TENANT: &str = "o.tenant collate \"C\" = $1";
    let found = match target {
        Target::Event(_) => OF_EVENT,
        Target::Tenant(_) => OF_TENANT,
        Target::Endpoint(_) => return Ok(0),
    };
    let text = format!(
        "with c as (
           delete from posthaste.outbox where ctid = any (array(
             select o.ctid from posthaste.outbox o where {found} limit {BATCH}))
           returning id, tenant, event_type, idempotency_key, max_attempts, traceparent, created_at
         ), e as (
           insert into posthaste.events
             (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at, erased_at)
           select c.id, c.tenant, c.event_type, 'null', c.idempotency_key, c.max_attempts, c.traceparent, c.created_at, now() from c
           on conflict do nothing)
         select count(*) from c"
    );
    one(db, text, target).await
}

/// Rows that could not be moved, at most a batch of them.
pub async fn set_aside(db: &Db, target: &Target) -> Result<i64> {
    let found = match target {
        Target::Event(_) => "s.id = $1::text::uuid",
        Target::Tenant(_) => "s.tenant = $1",
        Target::Endpoint(_) => return Ok(0),
    };
    let text = format!(
        "with u as (
           update posthaste.set_aside set payload = 'null' where (id, set_aside_at) in (
             select s.id, s.set_aside_at from posthaste.set_aside s
              where {found} and s.payload::text <> 'null' limit {BATCH})
           returning 1)
         select count(*) from u"
    );
    one(db, text, target).await
}

async fn one(db: &Db, text: String, target: &Target) -> Result<i64> {
    let value = target.value();
    db.run(async |c: &mut Conn| sqlx::query_scalar(AssertSqlSafe(text)).bind(value).fetch_one(c).await).await
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, sqlx_macros::FromRow)]
pub struct Waiting {
    pub outbox: i64,
    pub set_aside: i64,
}

/// What waits outside of the history, up to 10 000 each: nothing is changed.
pub async fn waiting(db: &Db, target: &Target) -> Result<Waiting> {
    const COUNT: &str = "
        select (select count(*) from (select from posthaste.outbox where id::text = $1 or (tenant = $2) limit 10000) o) as outbox,
               (select count(*) from (select from posthaste.set_aside
                 where (id::text = $1 or tenant = $2) and payload::text <> 'null' limit 10000) s) as set_aside";
    let (event, tenant) = match target {
        Target::Event(id) => (Some(id.to_string()), None),
        Target::Tenant(tenant) => (None, Some(tenant)),
        Target::Endpoint(_) => return Ok(Waiting::default()),
    };
    db.run(async |c: &mut Conn| sqlx::query_as(COUNT).bind(event).bind(tenant).fetch_one(c).await).await
}

/// Of these events of one day: how many still have a payload that would go, and how many deliveries are unfinished.
pub async fn count(db: &Db, target: &Target, day: Day, events: &[Uuid]) -> Result<Erased> {
    const COUNT: &str = "
        select (select count(*) from posthaste.events{day} e
                 where e.id = any ($1) and e.erased_at is null
                   and ($2::uuid is null or not exists (
                         select from posthaste.deliveries{day} o where o.event_id = e.id and o.endpoint_id <> $2))),
               (select count(*) from posthaste.deliveries{day} d
                 where d.event_id = any ($1) and ($2::uuid is null or d.endpoint_id = $2)
                   and coalesce(d.status, '') in ('pending', 'retrying', 'held'))";
    let arguments = || {
        let mut arguments = PgArguments::default();
        arguments.add(events.iter().copied().bind_iter())?;
        arguments.add(target.endpoint())?;
        Ok(arguments)
    };
    let counts: Vec<(i64, i64)> = days::rows(db, Some(day), COUNT, &arguments).await?;
    let (events, ended) = counts.first().copied().unwrap_or_default();
    Ok(Erased { events, ended, ..Erased::default() })
}

/// Opens the account of one run.
pub async fn begin(db: &Db, target: &Target) -> Result<i64> {
    let begin = sqlx::query_scalar("insert into posthaste.erasures (target, value) values ($1, $2) returning id");
    let begin = begin.bind(target.kind()).bind(target.value());
    db.run(async |c: &mut Conn| begin.fetch_one(c).await).await
}

/// What was done so far; `finished` with how it ended.
pub async fn account(db: &Db, id: i64, done: &Erased, finished: Option<&str>) -> Result<()> {
    let ended = finished.is_some();
    let error = finished.filter(|text| !text.is_empty());
    db.run(async |c: &mut Conn| {
        sqlx::query(
            "update posthaste.erasures
                set events = $2, from_outbox = $3, set_aside = $4, ended = $5, dead = $6, attempts = $7, dead_letters = $8,
                    finished_at = case when $9 then now() end, error = $10 where id = $1",
        )
        .bind(id)
        .bind(done.events)
        .bind(done.from_outbox)
        .bind(done.set_aside)
        .bind(done.ended)
        .bind(done.dead)
        .bind(done.attempts)
        .bind(done.dead_letters)
        .bind(ended)
        .bind(error)
        .execute(c)
        .await
        .map(drop)
    })
    .await
}

/// The longest time that a message may wait in a delay queue of any schedule that there was.
pub async fn longest_delay_ms(db: &Db, prefix: &str) -> Result<Option<i64>> {
    const LONGEST: &str = "select max(ttl_ms) from posthaste.delay_queues where starts_with(name, $1 || '.delay.')";
    db.run(async |c: &mut Conn| sqlx::query_scalar(LONGEST).bind(prefix).fetch_one(c).await).await
}
