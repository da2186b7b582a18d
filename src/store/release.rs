//! Release: held deliveries that may go on. A scan by state, so a hold that lands after an enabling is found too.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::days::{Day, by_day, same_event, same_key};
use super::due::{self, list_and_return, of_event};
use super::held::unless_dropped;
use super::{Conn, Db, Result};
use crate::domain::flows::{Became, Let};
use crate::domain::ids::DeliveryKey;
use crate::domain::message::Message;

/// Deliveries of one statement. A literal in its text, so that the plan is made for so few.
pub const MOST: u32 = 500;
/// Payloads of one statement. They are in memory until the broker has confirmed them.
const MOST_BYTES: i64 = 32 << 20;

/// Those of the deliveries that are not on their way any more. A row whose day was dropped counts as gone.
pub async fn became(db: &Db, open: &[Let]) -> Result<Vec<(DeliveryKey, Became)>> {
    let mut all = Vec::new();
    for (day, open) in by_day(open.iter().copied(), |delivery| delivery.key.event_id) {
        all.extend(became_of(db, day, &open).await?);
    }
    Ok(all)
}

async fn became_of(db: &Db, day: Day, open: &[Let]) -> Result<Vec<(DeliveryKey, Became)>> {
    let text = format!(
        "select k.event_id, k.endpoint_id,
                coalesce(d.status = 'delivered' or d.dead_reason = 'permanent_status', false),
                coalesce(d.attempts > k.attempts, false)
           from unnest($1::uuid[], $2::uuid[], $3::int[]) as k(event_id, endpoint_id, attempts)
           left join {} d on {}
          where d.status is distinct from 'pending' or d.attempts <> k.attempts",
        day.table("deliveries"),
        same_key!("k")
    );
    let (events, endpoints): (Vec<Uuid>, Vec<Uuid>) =
        open.iter().map(|delivery| (delivery.key.event_id, delivery.key.endpoint_id)).unzip();
    let attempts: Vec<i32> = open.iter().map(|delivery| delivery.attempts).collect();
    let query = async |c: &mut Conn| {
        let query = sqlx::query_as(AssertSqlSafe(text)).bind(&events).bind(&endpoints).bind(&attempts);
        Ok(Some(query.fetch_all(c).await?))
    };
    let rows: Option<Vec<(Uuid, Uuid, bool, bool)>> = unless_dropped(db.run(query).await)?;
    let Some(rows) = rows else { return Ok(open.iter().map(|delivery| (delivery.key, Became::Back)).collect()) };
    let became = |taken, attempted| match (taken, attempted) {
        (true, _) => Became::Taken,
        (false, true) => Became::Failed,
        (false, false) => Became::Back,
    };
    let named =
        |(event_id, endpoint_id, taken, attempted)| (DeliveryKey { event_id, endpoint_id }, became(taken, attempted));
    Ok(rows.into_iter().map(named).collect())
}

/// Puts held deliveries of the day whose time has come back on their way: of each endpoint up to its count, those that are
/// due first, and no more than `MOST` in all. Returns the messages to publish now that it is committed. Rows that another session holds are skipped, and so
/// is an endpoint that is not enabled, is paused or whose circuit is open. The batch is listed under the relay until it is confirmed,
/// like a claimed one, so a crash in between costs no more than an adoption. Payloads of `MOST_BYTES` at most, but always
/// one delivery.
pub async fn release(db: &Db, relay: i64, day: Day, counts: &[(Uuid, u32)]) -> Result<due::Batch> {
    let text = format!(
        concat!(
            "with k as (
           select k.endpoint_id, k.n, k.ord from unnest($1::uuid[], $2::int[]) with ordinality as k(endpoint_id, n, ord)
             join posthaste.endpoints e on e.id = k.endpoint_id and e.status = 'enabled' and e.circuit_state <> 'open'
                and coalesce(e.paused_until <= now(), true)
         ), r as materialized (
           select d.event_id, d.endpoint_id, d.next_attempt_at, k.ord from k cross join lateral (
             select h.event_id, h.endpoint_id, h.next_attempt_at from {deliveries} h
              where h.status = 'held' and h.endpoint_id = k.endpoint_id and h.next_attempt_at <= now()
              order by h.next_attempt_at limit k.n for update skip locked) d limit {MOST}
         ), s as (
           select r.event_id, r.endpoint_id, row_number() over w as n, sum(
                    case when pg_column_compression(e.payload) is null then pg_column_size(e.payload)
                         else octet_length(e.payload::text) end) over w as bytes
             from r join {events} e on {same_event} window w as (order by r.ord, r.next_attempt_at, r.event_id)
         ), u as (
           update {deliveries} d set status = 'pending', next_attempt_at = now(), updated_at = now()
             from s where {same_key} and (s.n = 1 or s.bytes <= $4)
           returning d.event_id, d.endpoint_id, d.attempts, d.base_attempts, d.max_attempts)",
            list_and_return!(relay = "$3", due = "true", events = "{events}")
        ),
        MOST = MOST,
        same_key = same_key!("s"),
        same_event = same_event!("r"),
        deliveries = day.table("deliveries"),
        events = day.table("events"),
    );
    let (endpoints, limits): (Vec<Uuid>, Vec<i32>) =
        counts.iter().map(|(endpoint, count)| (*endpoint, i32::try_from(*count).unwrap_or(i32::MAX))).unzip();
    let release = async |c: &mut Conn| {
        let query = sqlx::query_as::<_, due::Listed>(AssertSqlSafe(text)).bind(&endpoints).bind(&limits);
        query.bind(relay).bind(MOST_BYTES).fetch_all(c).await
    };
    Ok(due::Batch::from(unless_dropped(db.run(release).await)?))
}

/// Batches of exact deliveries that are listed under the relay, with what of them is still owed: after a release whose
/// answer was lost, they are what it has committed.
pub async fn listed(db: &Db, relay: i64, limit: i64) -> Result<Vec<(i64, Vec<Message>)>> {
    let ids: Vec<i64> = db
        .run(async |c| {
            sqlx::query_scalar(
                "select id from posthaste.relay_batches where relay = $1 and endpoint_ids is not null order by id limit $2",
            )
            .bind(relay)
            .bind(limit)
            .fetch_all(c)
            .await
        })
        .await?;
    let mut batches = Vec::new();
    for id in ids {
        let messages = pending_of(db, id).await?;
        batches.push((id, messages));
    }
    Ok(batches)
}

async fn pending_of(db: &Db, batch: i64) -> Result<Vec<Message>> {
    let rows: Vec<due::Row> = db
        .run(async |c| {
            sqlx::query_as(concat!(
                "select d.event_id, d.endpoint_id, d.attempts, d.base_attempts, d.max_attempts, ",
                of_event!(),
                "
                   from posthaste.relay_batches b
                  cross join unnest(b.event_ids, b.endpoint_ids) as k(event_id, endpoint_id)
                   join posthaste.deliveries d on ",
                same_key!("k"),
                "  join posthaste.events e on ",
                same_event!("k"),
                " where b.id = $1 and d.status = 'pending'
                  order by 1, 2"
            ))
            .bind(batch)
            .fetch_all(c)
            .await
        })
        .await?;
    Ok(rows.into_iter().map(Message::from).collect())
}
