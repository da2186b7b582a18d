//! Sending again what has ended, and retrying early what waits: finding such deliveries and putting them on their way.
//!
//! Nothing has an index on what operators ask for. So each statement looks at a bounded number of deliveries of one day, in the
//! order of an index that leads to them, and says where it has stopped.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::days::{Day, same_event, same_key};
use super::due::{self, is_sent_to, list_and_return};
use super::held::unless_dropped;
use super::requeue::Last;
use super::{Conn, Db, Result};
use crate::domain::delivery::Status;
use crate::domain::ids::DeliveryKey;

/// Deliveries that one statement looks at.
const MOST: i64 = 5_000;
/// What is due so soon is left alone: two copies of the same attempt would be under way.
const SOON: TimeDelta = TimeDelta::seconds(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// What has ended gets a new series of attempts.
    Resend,
    /// What waits is due now.
    RetryNow,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Resend => "resend",
            Kind::RetryNow => "retry_now",
        }
    }
}

/// Which deliveries are meant. Empty fields mean all.
#[derive(Debug, Clone)]
pub struct Selection {
    pub kind: Kind,
    pub events: Vec<Uuid>,
    pub endpoint: Option<Uuid>,
    pub tenant: Option<String>,
    pub event_type: Option<String>,
    /// Only those that ended like this.
    pub status: Option<Status>,
    pub last: Last,
    /// Ids of the events, up to and without the second.
    pub from: Uuid,
    pub to: Uuid,
    /// What has changed since then is not meant: a run takes no delivery twice, and nor does one that goes on with it.
    pub start: DateTime<Utc>,
}

/// The index by which deliveries are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By events, one endpoint.
    Events,
    /// All of a day.
    Deliveries,
    /// Of the events that are named.
    Named,
    /// Those that wait, by their time.
    Waiting,
    Held,
}

impl Selection {
    /// All that lead to what is meant.
    pub fn ways(&self) -> &'static [Way] {
        match self.kind {
            _ if !self.events.is_empty() => &[Way::Named],
            Kind::Resend if self.endpoint.is_some() => &[Way::Events],
            Kind::Resend => &[Way::Deliveries],
            Kind::RetryNow => &[Way::Waiting, Way::Held],
        }
    }

    fn statuses(&self) -> Vec<&'static str> {
        match self.kind {
            Kind::Resend => match self.status {
                Some(status) => vec![status.as_str()],
                None => vec![Status::Delivered.as_str(), Status::Dead.as_str()],
            },
            Kind::RetryNow => vec![Status::Retrying.as_str(), Status::Held.as_str()],
        }
    }

    /// Where a day is begun.
    pub fn beginning(&self) -> Position {
        Position { at: DateTime::<Utc>::UNIX_EPOCH, key: NOWHERE }
    }
}

const NOWHERE: DeliveryKey = DeliveryKey { event_id: Uuid::nil(), endpoint_id: Uuid::nil() };

/// How far a day was looked through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    at: DateTime<Utc>,
    key: DeliveryKey,
}

/// A delivery that is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    pub key: DeliveryKey,
    /// Its endpoint was not removed.
    pub has_endpoint: bool,
    pub is_dead: bool,
}

/// What one statement has found.
#[derive(Debug)]
pub struct Found {
    pub candidates: Vec<Candidate>,
    /// Where to go on. `None`: there is nothing more that way.
    pub next: Option<Position>,
}

#[derive(sqlx_macros::FromRow)]
struct Row {
    last_at: DateTime<Utc>,
    last_event: Uuid,
    last_endpoint: Uuid,
    at: Option<DateTime<Utc>>,
    event_id: Option<Uuid>,
    endpoint_id: Option<Uuid>,
    has_endpoint: Option<bool>,
    is_dead: Option<bool>,
}

/// The deliveries to look at, in the order of an index. `$1`, `$2`, `$3`: after this time, event and endpoint.
fn looked_at(way: Way, day: Day) -> String {
    let (events, deliveries) = (day.table("events"), day.table("deliveries"));
    let all = "event_id, endpoint_id, 'epoch'::timestamptz as at";
    match way {
        Way::Events => format!(
            "select id as event_id, $4::uuid as endpoint_id, 'epoch'::timestamptz as at from {events}
              where id > $2 and id >= $6 and id < $7 order by id limit {MOST}"
        ),
        Way::Deliveries => format!(
            "select {all} from {deliveries} where (event_id, endpoint_id) > ($2, $3) and event_id >= $6 and event_id < $7
              order by event_id, endpoint_id limit {MOST}"
        ),
        Way::Named => format!(
            "select {all} from {deliveries} where event_id = any ($5) and (event_id, endpoint_id) > ($2, $3)
              order by event_id, endpoint_id limit {MOST}"
        ),
        // Many may be due in the same microsecond, and all of those are in: only their order is made here.
        Way::Waiting => format!(
            "select * from (
               select event_id, endpoint_id, next_attempt_at as at from {deliveries}
                where status = 'retrying' and next_attempt_at >= greatest($1, $10::timestamptz)
                  and (next_attempt_at, event_id, endpoint_id) > ($1, $2, $3)
                order by next_attempt_at fetch first {MOST} rows with ties) w
              order by at, event_id, endpoint_id"
        ),
        Way::Held => format!(
            "select {all} from {deliveries} where status = 'held' and (endpoint_id, event_id) > ($3, $2)
              order by endpoint_id, event_id limit {MOST}"
        ),
    }
}

/// The next deliveries of the day that are meant, at most `limit`, among those that one statement looks at. Each of them is
/// looked up by its key: a join that the planner may turn round reads the whole day.
pub async fn find(db: &Db, selection: &Selection, way: Way, day: Day, after: Position, limit: i64) -> Result<Found> {
    let text = format!(
        "with x as materialized (
               select l.*, row_number() over () as ord from ({looked_at}) l
             ), m as (
               select x.ord, x.at, d.event_id, d.endpoint_id, p.id is not null as has_endpoint, d.status = 'dead' as is_dead
                 from x
                cross join lateral (
                  select d.* from {deliveries} d where d.event_id = x.event_id and d.endpoint_id = x.endpoint_id offset 0) d
                cross join lateral (
                  select e.tenant, e.event_type, e.erased_at from {events} e where e.id = x.event_id offset 0) e
                 left join posthaste.endpoints p on p.id = d.endpoint_id
                where d.status = any ($8) and d.updated_at < $9
                  and e.erased_at is null and d.dead_reason is distinct from 'erased'
                  and ($10::timestamptz is null or d.next_attempt_at > $10)
                  and ($4::uuid is null or d.endpoint_id = $4) and ($5::uuid[] is null or d.event_id = any ($5))
                  and d.event_id >= $6 and d.event_id < $7
                  and ($11::text is null or e.tenant = $11) and ($12::text is null or e.event_type = $12)
                  and ($13::int[] is null or d.last_status_code = any ($13) or d.last_error = any ($14::text[]))
                  and ($1::timestamptz, $2::uuid, $3::uuid) is not null
                order by x.ord limit $15)
             select l.at as last_at, l.event_id as last_event, l.endpoint_id as last_endpoint, m.at, m.event_id,
                    m.endpoint_id, m.has_endpoint, m.is_dead
               from (select * from x order by ord desc limit 1) l left join m on true order by m.ord",
        looked_at = looked_at(way, day),
        deliveries = day.table("deliveries"),
        events = day.table("events"),
    );
    let soon = (selection.kind == Kind::RetryNow).then(|| selection.start + SOON);
    let find = async |c: &mut Conn| {
        let query = sqlx::query_as(AssertSqlSafe(text)).bind(after.at).bind(after.key.event_id);
        let query = query.bind(after.key.endpoint_id).bind(selection.endpoint);
        let query = query.bind((!selection.events.is_empty()).then_some(selection.events.as_slice()));
        let query = query.bind(selection.from).bind(selection.to).bind(selection.statuses()).bind(selection.start);
        let query = query.bind(soon).bind(&selection.tenant).bind(&selection.event_type);
        query.bind(selection.last.codes()).bind(selection.last.texts()).bind(limit).fetch_all(c).await
    };
    let rows: Vec<Row> = unless_dropped(db.run(find).await)?;
    Ok(found(&rows, limit))
}

/// With as many as were asked for, it goes on behind the last one of them; otherwise behind what was looked at.
fn found(rows: &[Row], limit: i64) -> Found {
    let key = |event_id, endpoint_id| DeliveryKey { event_id, endpoint_id };
    let candidate = |row: &Row| {
        Some(Candidate {
            key: key(row.event_id?, row.endpoint_id?),
            has_endpoint: row.has_endpoint?,
            is_dead: row.is_dead?,
        })
    };
    let candidates: Vec<Candidate> = rows.iter().filter_map(candidate).collect();
    let is_full = candidates.len() as i64 >= limit;
    let next = rows.last().map(|row| match (is_full, row.at, candidates.last()) {
        (true, Some(at), Some(last)) => Position { at, key: last.key },
        _ => Position { at: row.last_at, key: key(row.last_event, row.last_endpoint) },
    });
    Found { candidates, next }
}

/// A delivery to put on its way.
#[derive(Debug, Clone, Copy)]
pub struct Chosen {
    pub key: DeliveryKey,
    /// Its endpoint has more than it takes: it is held, behind the rest.
    pub behind: bool,
}

/// `domain::delivery::resend` and `retry_now` in SQL. Where the endpoint gets nothing just now, or is behind, the delivery is held
/// and due. What is erased, event or delivery, is left alone. What is to be published now that it is committed is listed under
/// `relay` until it is confirmed: if the command is killed in between, a relay adopts it.
pub async fn grant(db: &Db, relay: i64, selection: &Selection, day: Day, chosen: &[Chosen]) -> Result<due::Made> {
    if chosen.is_empty() {
        return Ok(due::Made::default());
    }
    let text = format!(
        concat!(
            "with r as materialized (
               select d.event_id, d.endpoint_id,
                      case when coalesce(d.status, '') <> 'held' and ",
            is_sent_to!(),
            " and not k.behind then 'pending' else 'held' end as status
                 from unnest($1::uuid[], $2::uuid[], $3::bool[]) as k(event_id, endpoint_id, behind)
                 join {deliveries} d on ",
            same_key!("k"),
            "    join posthaste.endpoints ep on ep.id = d.endpoint_id
                 join {events} e on ",
            same_event!("k"),
            "  where coalesce(d.status, '') = any ($4) and d.updated_at < $5
                  and e.erased_at is null and d.dead_reason is distinct from 'erased'
                order by d.event_id, d.endpoint_id for update of d skip locked
             ), u as (
               update {deliveries} d
                  set status = r.status, base_attempts = case when $6 then d.attempts else d.base_attempts end,
                      dead_reason = null, next_attempt_at = now(), updated_at = now()
                 from r where ",
            same_key!("r"),
            "  returning d.event_id, d.endpoint_id, d.status, d.attempts, d.base_attempts, d.max_attempts)",
            list_and_return!(relay = "$7", due = "u.status = 'pending'", events = "{events}")
        ),
        deliveries = day.table("deliveries"),
        events = day.table("events"),
    );
    let (events, endpoints): (Vec<Uuid>, Vec<Uuid>) =
        chosen.iter().map(|chosen| (chosen.key.event_id, chosen.key.endpoint_id)).unzip();
    let behind: Vec<bool> = chosen.iter().map(|chosen| chosen.behind).collect();
    let grant = async |c: &mut Conn| {
        let query = sqlx::query_as::<_, due::Written>(AssertSqlSafe(text)).bind(events).bind(endpoints).bind(behind);
        let query = query.bind(selection.statuses()).bind(selection.start).bind(selection.kind == Kind::Resend);
        query.bind(relay).fetch_all(c).await
    };
    Ok(due::Made::from(unless_dropped(db.run(grant).await)?))
}
