//! Dead deliveries: listing them, granting them a fresh set of attempts, and what the sweep of the dead-letter queue asks.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::days::{same_event, same_key};
use super::deliveries::{Raw, Snapshot, columns, columns_of};
use super::due::{self, is_sent_to, list_and_return, of_event};
use super::replay::Window;
use super::told::tell_dead;
use super::{Conn, Db, Result};
use crate::domain::dead_reason::DeadReason;
use crate::domain::ids::{self, DeliveryKey};
use crate::domain::message::Message;
use crate::domain::outcome::ErrorClass;

/// Which dead deliveries are meant. Empty fields mean all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub events: Vec<Uuid>,
    pub endpoint: Option<Uuid>,
    pub tenant: Option<String>,
    pub event_type: Option<String>,
    pub reason: Option<DeadReason>,
    /// When the delivery died.
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
    /// When the event was created, as its id tells it.
    pub window: Option<Window>,
    /// What the last attempt ended with: one of these status codes, or one of these errors.
    pub last: Last,
}

/// How the last attempt ended, as the delivery's row keeps it. Empty: in any way.
#[derive(Debug, Clone, Default)]
pub struct Last {
    pub status_codes: Vec<i32>,
    pub errors: Vec<ErrorClass>,
}

impl Last {
    pub(super) fn codes(&self) -> Option<&[i32]> {
        (!self.is_any()).then_some(self.status_codes.as_slice())
    }

    pub(super) fn texts(&self) -> Vec<String> {
        self.errors.iter().flat_map(|class| class.texts()).collect()
    }

    fn is_any(&self) -> bool {
        self.status_codes.is_empty() && self.errors.is_empty()
    }
}

/// The filter as SQL, for the aliases `d` (delivery) and `e` (event); `$1` is the endpoint, `$2` the events. Where there
/// always is one, the condition must be a plain one: an optional one cannot use an index in a plan for all values.
macro_rules! matching {
    ($endpoint:expr, $events:expr) => {
        concat!(
            "d.status = 'dead' and ",
            $endpoint,
            " and ",
            $events,
            "
         and ($3::text is null or e.tenant = $3) and ($4::text is null or e.event_type = $4)
         and ($5::text is null or d.dead_reason = $5)
         and ($6::timestamptz is null or d.updated_at >= $6) and ($7::timestamptz is null or d.updated_at < $7)
         and ($8::uuid is null or d.event_id >= $8) and ($9::uuid is null or d.event_id < $9)
         and ($10::int[] is null or d.last_status_code = any ($10) or d.last_error = any ($11::text[]))"
        )
    };
}

/// What is erased can be listed, and nothing else.
macro_rules! not_erased {
    () => {
        " and d.dead_reason is distinct from 'erased'"
    };
}

/// Conditions on the endpoint and on the events, for `matching!`.
macro_rules! any_endpoint {
    () => {
        "($1::uuid is null or d.endpoint_id = $1)"
    };
}
macro_rules! the_endpoint {
    () => {
        "d.endpoint_id = $1"
    };
}
macro_rules! any_event {
    () => {
        "$2::uuid[] is null"
    };
}
macro_rules! these_events {
    () => {
        // Of both: the join alone would not tell the planner that there are few.
        "d.event_id = any ($2) and e.id = any ($2)"
    };
}

/// The statement for named events, or the one for all.
fn choose(filter: &Filter, all: &'static str, these: &'static str) -> &'static str {
    if filter.events.is_empty() { all } else { these }
}

/// The values of `matching!`, in its order.
macro_rules! bound {
    ($query:expr, $endpoint:expr, $filter:expr) => {
        $query
            .bind($endpoint)
            .bind(events_of($filter))
            .bind(&$filter.tenant)
            .bind(&$filter.event_type)
            .bind($filter.reason.map(DeadReason::as_str))
            .bind($filter.since)
            .bind($filter.until)
            .bind($filter.window.map(|window| window.from()))
            .bind($filter.window.map(|window| window.to()))
            .bind($filter.last.codes())
            .bind($filter.last.texts())
    };
}

/// A dead delivery as operators read it.
#[derive(Debug, Clone, serde::Serialize, sqlx_macros::FromRow)]
pub struct Dead {
    pub event_id: Uuid,
    pub endpoint_id: Uuid,
    pub tenant: String,
    pub event_type: String,
    pub dead_reason: Option<String>,
    pub attempts: i32,
    pub last_status_code: Option<i32>,
    pub last_error: Option<String>,
    pub died_at: DateTime<Utc>,
}

/// The dead deliveries that match, latest death first. Reads all that match: for a command, not for a service.
pub async fn list(db: &Db, filter: &Filter, limit: i64) -> Result<Vec<Dead>> {
    macro_rules! list {
        ($events:expr) => {
            concat!(
                "select d.event_id, d.endpoint_id, e.tenant, e.event_type, d.dead_reason, d.attempts, d.last_status_code,
                        d.last_error, d.updated_at as died_at
                   from posthaste.deliveries d join posthaste.events e on ",
                same_event!("d"),
                " where ",
                matching!(any_endpoint!(), $events),
                " order by d.updated_at desc, d.event_id desc limit $12"
            )
        };
    }
    let list = choose(filter, list!(any_event!()), list!(these_events!()));
    db.run(async |c| bound!(sqlx::query_as(list), filter.endpoint, filter).bind(limit).fetch_all(c).await).await
}

pub async fn count(db: &Db, endpoint: Uuid, filter: &Filter) -> Result<i64> {
    macro_rules! count {
        ($events:expr) => {
            concat!(
                "select count(*) from posthaste.deliveries d join posthaste.events e on ",
                same_event!("d"),
                " where ",
                matching!(the_endpoint!(), $events),
                not_erased!()
            )
        };
    }
    let count = choose(filter, count!(any_event!()), count!(these_events!()));
    db.run(async |c| bound!(sqlx::query_scalar(count), endpoint, filter).fetch_one(c).await).await
}

/// Dead deliveries of one endpoint, to be granted a fresh set of attempts.
#[derive(Debug, Clone, Copy)]
pub struct Next {
    pub endpoint: Uuid,
    /// Of events after this one.
    pub after: Uuid,
    pub limit: i64,
    /// What the endpoint gets is held, behind what it waits for.
    pub behind: bool,
}

/// Grants those that match a fresh set of attempts. Where the endpoint is not enabled, its circuit not closed, or it is
/// behind, they are held, as a claim would hold them. What is to be published now that it is committed
/// is listed under `relay` until it is confirmed: if the requeue is killed in between, a relay adopts it.
pub async fn grant(db: &Db, relay: i64, filter: &Filter, next: Next) -> Result<due::Made> {
    macro_rules! grant {
        ($events:expr) => {
            concat!(
                "with p as materialized (
                   select case when ",
                is_sent_to!(),
                " and not $15 then 'pending' else 'held' end as status
                     from posthaste.endpoints ep where ep.id = $1
                 ), r as materialized (
                   select d.event_id, d.endpoint_id
                     from posthaste.deliveries d join posthaste.events e on ",
                same_event!("d"),
                "   where ",
                matching!(the_endpoint!(), $events),
                not_erased!(),
                "     and d.event_id > $12 and exists (select from p)
                    order by d.event_id limit $13 for update of d skip locked
                 ), u as (
                   update posthaste.deliveries d
                      set status = (select p.status from p), base_attempts = d.attempts, dead_reason = null,
                          next_attempt_at = now(), updated_at = now()
                     from r where ",
                same_key!("r"),
                "  returning d.event_id, d.endpoint_id, d.status, d.attempts, d.base_attempts, d.max_attempts)",
                list_and_return!(relay = "$14", due = "u.status = 'pending'", events = "posthaste.events")
            )
        };
    }
    let text = choose(filter, grant!(any_event!()), grant!(these_events!()));
    let grant = async |c: &mut Conn| {
        let query = bound!(sqlx::query_as(text), next.endpoint, filter);
        query.bind(next.after).bind(next.limit).bind(relay).bind(next.behind).fetch_all(c).await
    };
    let rows: Vec<due::Written> = db.run(grant).await?;
    Ok(due::Made::from(rows))
}

fn events_of(filter: &Filter) -> Option<&[Uuid]> {
    (!filter.events.is_empty()).then_some(filter.events.as_slice())
}

/// Dead deliveries of one endpoint and their attempts; only those dead for longer than the grace.
pub async fn keys(
    db: &Db,
    endpoint: Uuid,
    after: Uuid,
    limit: i64,
    grace: Duration,
) -> Result<Vec<(DeliveryKey, i32)>> {
    let rows: Vec<(Uuid, i32)> = db
        .run(async |c| {
            sqlx::query_as(
                "select event_id, attempts from posthaste.deliveries
                  where status = 'dead' and dead_reason is distinct from 'erased' and endpoint_id = $1 and event_id > $2
                    and updated_at < now() - $4 * interval '1 second'
                  order by event_id limit $3",
            )
            .bind(endpoint)
            .bind(after)
            .bind(limit)
            .bind(grace.as_secs_f64())
            .fetch_all(c)
            .await
        })
        .await?;
    let key = |event_id| DeliveryKey { event_id, endpoint_id: endpoint };
    Ok(rows.into_iter().map(|(event_id, attempts)| (key(event_id), attempts)).collect())
}

/// A delivery's row and its event, as read together.
#[derive(sqlx_macros::FromRow)]
pub(super) struct Both {
    #[sqlx(flatten)]
    raw: Raw,
    #[sqlx(flatten)]
    due: due::Row,
}

pub(super) fn both(rows: Vec<Both>) -> Result<Vec<(Message, Snapshot)>> {
    rows.into_iter().map(|both| Ok((Message::from(both.due), both.raw.snapshot()?))).collect()
}

/// Those of the given deliveries that are dead, with their events, for writing dead letters that are missing.
pub async fn dead_letters(db: &Db, keys: &[DeliveryKey]) -> Result<Vec<(Message, Snapshot)>> {
    let Some(bounds) = ids::bounds(keys.iter().map(|key| key.event_id)) else { return Ok(Vec::new()) };
    let (events, endpoints) = columns_of(keys);
    let rows: Vec<Both> = db
        .run(async |c| {
            sqlx::query_as(concat!(
                "select ",
                columns!(),
                ", ",
                of_event!(),
                " from unnest($1::uuid[], $2::uuid[]) as k(event_id, endpoint_id)
                   join posthaste.deliveries d on ",
                same_key!("k"),
                "  join posthaste.events e on ",
                same_event!("k"),
                " where d.status = 'dead' and d.event_id between $3 and $4 and e.id between $3 and $4",
                not_erased!()
            ))
            .bind(&events)
            .bind(&endpoints)
            .bind(bounds.start())
            .bind(bounds.end())
            .fetch_all(c)
            .await
        })
        .await?;
    both(rows)
}

/// The database's clock: the only one that counts.
pub async fn now(db: &Db) -> Result<DateTime<Utc>> {
    db.run(async |c| sqlx::query_scalar("select now()").fetch_one(c).await).await
}

/// Ends every unfinished delivery of an endpoint that was removed. Returns how many rows were ended, at most `limit`. What
/// is held is found by its index, and the rest among all that is unfinished: never by reading the history.
pub async fn mark_dead_of_removed(db: &Db, endpoint: Uuid, limit: i64) -> Result<Vec<(Message, Snapshot)>> {
    const REMOVED: &str = concat!(
        "with h as materialized (
           select event_id, endpoint_id from posthaste.deliveries
            where endpoint_id = $1 and status = 'held' limit $2 for update skip locked
         ), w as materialized (
           select event_id, endpoint_id from posthaste.deliveries
            where endpoint_id = $1 and status in ('pending', 'retrying') limit $2 for update skip locked
         ), r as materialized (
           select * from (select * from h union all select * from w) hw
            where not exists (select from posthaste.endpoints where id = $1) limit $2
         ), d as (
           update posthaste.deliveries d
              set status = 'dead', dead_reason = 'endpoint_removed', next_attempt_at = null, updated_at = now()
             from r where ",
        same_key!("r"),
        "  returning d.*)
         select ",
        columns!(),
        ", ",
        of_event!(),
        ", ",
        tell_dead!("d"),
        " from d join posthaste.events e on ",
        same_event!("d")
    );
    both(db.run(async |c| sqlx::query_as(REMOVED).bind(endpoint).bind(limit).fetch_all(c).await).await?)
}
