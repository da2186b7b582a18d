//! Batches that are committed and not yet confirmed by the broker, and what a dead relay left of them.

use std::time::Duration;

use uuid::Uuid;

use super::days::same_event;
use super::due::carried;
use super::{Db, Result, due};
use crate::domain::ids::DeliveryKey;
use crate::domain::message::Message;

/// Forgets batches whose every copy the broker has confirmed.
pub async fn unlist(db: &Db, ids: &[i64]) -> Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    db.run(async |c| {
        sqlx::query("delete from posthaste.relay_batches where id = any ($1)").bind(ids).execute(c).await.map(drop)
    })
    .await
}

/// Messages of the event are listed: the broker has not confirmed all of them.
pub async fn lists(db: &Db, event: Uuid) -> Result<bool> {
    let lists = "select exists (select from posthaste.relay_batches where event_ids @> array[$1::uuid])";
    db.run(async |c| sqlx::query_scalar(lists).bind(event).fetch_one(c).await).await
}

/// Relays, other than this one, that have listed batches; those whose session is gone are to be adopted.
pub async fn other_relays(db: &Db, relay: i64) -> Result<Vec<i64>> {
    db.run(async |c| {
        sqlx::query_scalar("select distinct relay from posthaste.relay_batches where relay <> $1 limit 100")
            .bind(relay)
            .fetch_all(c)
            .await
    })
    .await
}

/// The oldest batches of a relay. Younger ones than this may still have copies in the queue of first attempts that are so
/// fresh that their worker does not read the row; by then it does, and drops them if the adopted copy was faster.
pub const ADOPTABLE: Duration = Duration::from_secs(2);

pub async fn of_relay(db: &Db, relay: i64, except: &[i64], limit: i64) -> Result<Vec<i64>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "select id from posthaste.relay_batches
              where relay = $1 and id <> all ($4) and claimed_at < now() - $3 * interval '1 second'
              order by id limit $2",
        )
        .bind(relay)
        .bind(limit)
        .bind(ADOPTABLE.as_secs_f64())
        .bind(except)
        .fetch_all(c)
        .await
    })
    .await
}

/// The most that is read at once of a batch: deliveries, and bytes of their payloads. One delivery is always read.
const PAGE: i64 = 500;
const PAGE_BYTES: i64 = 16 * 1024 * 1024;

/// The next messages of a batch that are still owed, in the order of their keys: what was settled or held since needs none.
/// Of a claimed batch these are first attempts, of any other the deliveries that it lists.
pub async fn unfinished(db: &Db, batch: i64, after: Option<DeliveryKey>) -> Result<Vec<Message>> {
    let after = after.unwrap_or(DeliveryKey { event_id: Uuid::nil(), endpoint_id: Uuid::nil() });
    let rows: Vec<due::Row> = db
        .run(async |c| {
            sqlx::query_as(UNFINISHED)
                .bind(batch)
                .bind(after.event_id)
                .bind(after.endpoint_id)
                .bind(PAGE)
                .bind(PAGE_BYTES)
                .bind(Uuid::max())
                .fetch_all(c)
                .await
        })
        .await?;
    Ok(rows.into_iter().map(Message::from).collect())
}

/// Each event is looked up by itself, so that a page costs no more than its rows however many deliveries the events have.
const UNFINISHED: &str = concat!(
    "
with b as materialized (
  select distinct l.event_id, l.endpoint_id
    from posthaste.relay_batches r cross join unnest(r.event_ids, r.endpoint_ids) as l(event_id, endpoint_id)
   where r.id = $1 and l.event_id >= $2
   order by 1, 2
), p as materialized (
  select d.* from b cross join lateral (
    select d.event_id, d.endpoint_id, d.attempts, d.base_attempts, d.max_attempts
      from posthaste.deliveries d
     where d.event_id = b.event_id and d.status = 'pending'
       and d.endpoint_id >= coalesce(b.endpoint_id, '00000000-0000-0000-0000-000000000000')
       and d.endpoint_id <= coalesce(b.endpoint_id, $6)
       and (b.endpoint_id is not null or d.attempts = 0)
       and (d.event_id, d.endpoint_id) > ($2, $3)
     order by d.endpoint_id limit $4) d
   limit $4
), s as (
  select p.*, e.tenant, e.event_type, e.payload, e.traceparent, row_number() over keys as n,
         sum(case when pg_column_compression(e.payload) is null then pg_column_size(e.payload)
                  else octet_length(e.payload::text) end) over keys as bytes
    from p join posthaste.events e on ",
    same_event!("p"),
    "
  window keys as (order by p.event_id, p.endpoint_id rows unbounded preceding)
)
select event_id, endpoint_id, attempts, base_attempts, max_attempts, tenant, event_type, ",
    carried!("s"),
    ", traceparent
  from s where n = 1 or bytes <= $5
 order by 1, 2"
);
