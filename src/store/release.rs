//! Release: held deliveries that may go on. A scan by state, so a hold that lands after an enabling is found too.

use uuid::Uuid;

use super::{Db, Result, due};
use crate::domain::circuit::State;
use crate::domain::ids::{self, DeliveryKey};

/// Endpoints that have held deliveries, whether they may be released or not; `exists` is false for a removed endpoint.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
pub struct Holder {
    pub endpoint_id: Uuid,
    pub exists: bool,
    /// The time of one of them has come.
    pub due: bool,
    pub enabled: bool,
    pub circuit_state: String,
    pub circuit_trips: i32,
    pub rate_limit: Option<f64>,
}

impl Holder {
    pub fn circuit(&self) -> State {
        State::parse(&self.circuit_state).unwrap_or_default()
    }
}

/// A delivery that was let go, with the attempts that it had then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Let {
    pub key: DeliveryKey,
    pub attempts: i32,
}

/// What became of a delivery that was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// Delivered, or refused for good: the endpoint takes what it gets.
    Taken,
    /// An attempt was made, and failed.
    Failed,
    /// Held again without an attempt, or gone.
    Back,
}

/// Those of the deliveries that are not on their way any more. A row whose day was dropped counts as gone.
pub async fn became(db: &Db, open: &[Let]) -> Result<Vec<(DeliveryKey, Became)>> {
    let Some(bounds) = ids::bounds(open.iter().map(|delivery| delivery.key.event_id)) else { return Ok(Vec::new()) };
    let events: Vec<Uuid> = open.iter().map(|delivery| delivery.key.event_id).collect();
    let endpoints: Vec<Uuid> = open.iter().map(|delivery| delivery.key.endpoint_id).collect();
    let attempts: Vec<i32> = open.iter().map(|delivery| delivery.attempts).collect();
    let rows: Vec<(Uuid, Uuid, bool, bool)> = db
        .run(async |c| {
            sqlx::query_as(
                "select k.event_id, k.endpoint_id, coalesce(d.status = 'delivered' or d.dead_reason = 'permanent_status', false),
                        coalesce(d.attempts > k.attempts, false)
                   from unnest($1::uuid[], $2::uuid[], $3::int[]) as k(event_id, endpoint_id, attempts)
                   left join posthaste.deliveries d
                     on d.event_id = k.event_id and d.endpoint_id = k.endpoint_id and d.event_id between $4 and $5
                  where d.status is distinct from 'pending' or d.attempts <> k.attempts",
            )
            .bind(&events)
            .bind(&endpoints)
            .bind(&attempts)
            .bind(bounds.start())
            .bind(bounds.end())
            .fetch_all(c)
            .await
        })
        .await?;
    let became = |taken, attempted| match (taken, attempted) {
        (true, _) => Became::Taken,
        (false, true) => Became::Failed,
        (false, false) => Became::Back,
    };
    let named =
        |(event_id, endpoint_id, taken, attempted)| (DeliveryKey { event_id, endpoint_id }, became(taken, attempted));
    Ok(rows.into_iter().map(named).collect())
}

/// Walks the index of held deliveries from endpoint to endpoint, so the cost is the number of endpoints, not of rows.
pub async fn holders(db: &Db, limit: i64) -> Result<Vec<Holder>> {
    db.run(async |c| {
        sqlx::query_as(
            "with recursive h as (
               (select endpoint_id, next_attempt_at from posthaste.deliveries
                 where status = 'held' order by endpoint_id, next_attempt_at limit 1)
               union all
               select n.* from h cross join lateral (
                 select d.endpoint_id, d.next_attempt_at from posthaste.deliveries d
                  where d.status = 'held' and d.endpoint_id > h.endpoint_id
                  order by d.endpoint_id, d.next_attempt_at limit 1) n)
             select h.endpoint_id, e.id is not null as exists, coalesce(h.next_attempt_at <= now(), false) as due,
                    coalesce(e.status = 'enabled', false) as enabled,
                    coalesce(e.circuit_state, 'closed') as circuit_state, coalesce(e.circuit_trips, 0) as circuit_trips,
                    e.rate_limit_per_second as rate_limit
               from h left join posthaste.endpoints e on e.id = h.endpoint_id
              limit $1",
        )
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .await
}

/// Puts up to `limit` held deliveries of an enabled endpoint back on their way, oldest event first, and returns the
/// messages to publish now that it is committed. Rows that another session holds are skipped. The batch is listed under
/// the relay until it is confirmed, like a claimed one, so a crash in between costs no more than an adoption.
pub async fn release(db: &Db, relay: i64, endpoint: Uuid, limit: i64) -> Result<due::Batch> {
    let rows: Vec<due::Listed> = db
        .run(async |c| {
            sqlx::query_as(
                "with r as materialized (
                   select event_id, endpoint_id from posthaste.deliveries
                    where status = 'held' and endpoint_id = $1 and next_attempt_at <= now()
                      and exists (select from posthaste.endpoints e
                                   where e.id = $1 and e.status = 'enabled' and e.circuit_state <> 'open')
                    order by next_attempt_at limit $2 for update skip locked
                 ), u as (
                   update posthaste.deliveries d set status = 'pending', next_attempt_at = now(), updated_at = now()
                     from r where (d.event_id, d.endpoint_id) = (r.event_id, r.endpoint_id)
                   returning d.event_id, d.endpoint_id, d.attempts, d.base_attempts, d.max_attempts
                 ), b as (
                   insert into posthaste.relay_batches (relay, event_ids)
                   select $3, array_agg(u.event_id) from u having count(*) > 0 returning id)
                 select u.*, (select id from b) as batch_id, e.tenant, e.event_type, e.payload::text as payload, e.traceparent
                   from u join posthaste.events e on e.id = u.event_id order by 1",
            )
            .bind(endpoint)
            .bind(limit)
            .bind(relay)
            .fetch_all(c)
            .await
        })
        .await?;
    Ok(due::Batch::from(rows))
}
