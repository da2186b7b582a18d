//! Held deliveries that end without an attempt: their endpoint was removed, or they were held for too long. By the day's
//! partition and its index of held deliveries, so the cost is the number of rows that are ended.

use std::time::Duration;

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::days::{Day, same_event, same_key};
use super::deliveries::{Snapshot, columns};
use super::due::of_event;
use super::held::unless_dropped;
use super::requeue::{Both, both};
use super::told::tell_dead;
use super::{Db, Result};
use crate::domain::message::Message;

/// The statement that makes held deliveries of the endpoints `$1` dead. `found` finds those of one endpoint, `k`. The limit is
/// a literal, so that the plan is made for so few.
fn end(day: Day, reason: &str, found: &str, limit: u32) -> String {
    format!(
        "with r as materialized (
           select d.event_id, d.endpoint_id from unnest($1::uuid[]) as k(endpoint_id) cross join lateral (
             select h.event_id, h.endpoint_id from {deliveries} h
              where h.status = 'held' and h.endpoint_id = k.endpoint_id {found} limit {limit} for update skip locked) d
           limit {limit}
         ), d as (
           update {deliveries} d
              set status = 'dead', dead_reason = '{reason}', next_attempt_at = null, updated_at = now()
             from r where {same_key}
           returning d.*)
         select {columns}, {event}, {told}
           from d join {events} e on {same_event}",
        deliveries = day.table("deliveries"),
        events = day.table("events"),
        same_key = same_key!("r"),
        same_event = same_event!("d"),
        columns = columns!(),
        event = of_event!(),
        told = tell_dead!("d"),
    )
}

/// Ends held deliveries of endpoints that were removed, at most `limit`.
pub async fn removed(db: &Db, day: Day, endpoints: &[Uuid], limit: u32) -> Result<Vec<(Message, Snapshot)>> {
    let gone = "and not exists (select from posthaste.endpoints e where e.id = k.endpoint_id)";
    let text = end(day, "endpoint_removed", gone, limit);
    let rows =
        async |c: &mut super::Conn| sqlx::query_as::<_, Both>(AssertSqlSafe(text)).bind(endpoints).fetch_all(c).await;
    both(unless_dropped(db.run(rows).await)?)
}

/// Ends deliveries that are held and whose event is older than this, at most `limit`, an endpoint's oldest first.
pub async fn expired(
    db: &Db,
    day: Day,
    endpoints: &[Uuid],
    age: Duration,
    limit: u32,
) -> Result<Vec<(Message, Snapshot)>> {
    let old = "and h.event_id < posthaste.uuid_v7_floor(now() - $2 * interval '1 second') order by h.event_id";
    let text = end(day, "expired", old, limit);
    let rows = async |c: &mut super::Conn| {
        let query = sqlx::query_as::<_, Both>(AssertSqlSafe(text)).bind(endpoints);
        query.bind(age.as_secs_f64()).fetch_all(c).await
    };
    both(unless_dropped(db.run(rows).await)?)
}
