//! Held deliveries, day by day: which days have any, and whose they are. Each statement names its day's partition, so it
//! costs the same however much history there is; what it reads is bounded by the endpoints that it is asked about.

use std::cmp::Reverse;
use std::collections::HashMap;

use chrono::NaiveDate;
use sqlx::{AssertSqlSafe, Connection};
use uuid::Uuid;

use super::days::Day;
use super::{Conn, Db, Result, StoreError};
use crate::domain::circuit::State;

/// SQLSTATE: the table is not there. A day that was dropped, or not made yet, has no rows.
const UNDEFINED_TABLE: &str = "42P01";

/// An endpoint with held deliveries of one day, whether they may be released or not.
#[derive(Debug, Clone, PartialEq, sqlx_macros::FromRow)]
pub struct HeldEndpoint {
    pub endpoint_id: Uuid,
    /// False for a removed endpoint.
    pub exists: bool,
    pub enabled: bool,
    pub circuit_state: String,
    pub circuit_trips: i32,
    /// It asked for time, and that is not over.
    pub paused: bool,
    pub max_in_flight: Option<i32>,
    pub rate_limit: Option<f64>,
    /// Until the time of the first of them has come; negative: so long ago.
    pub due_in_ms: i64,
}

impl HeldEndpoint {
    pub fn circuit(&self) -> State {
        State::parse(&self.circuit_state).unwrap_or_default()
    }
}

/// What a statement needs of a held endpoint `h`.
macro_rules! held {
    () => {
        "select h.endpoint_id, e.id is not null as exists, coalesce(e.status = 'enabled', false) as enabled,
                coalesce(e.circuit_state, 'closed') as circuit_state, coalesce(e.circuit_trips, 0) as circuit_trips,
                coalesce(e.paused_until > now(), false) as paused,
                e.max_in_flight, e.rate_limit_per_second as rate_limit,
                ceil(extract(epoch from h.next_attempt_at - now()) * 1000)::bigint as due_in_ms "
    };
}

/// Turns "the day has no partition" into "it has no rows".
pub(super) fn unless_dropped<T: Default>(result: Result<T>) -> Result<T> {
    match result {
        Err(StoreError::Refused { code, .. }) if code == UNDEFINED_TABLE => Ok(T::default()),
        other => other,
    }
}

/// The days that have partitions, in order.
pub async fn days(db: &Db) -> Result<Vec<Day>> {
    let names: Vec<String> = db
        .run(async |c| {
            sqlx::query_scalar(
                "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
                  where i.inhparent = 'posthaste.deliveries'::regclass",
            )
            .fetch_all(c)
            .await
        })
        .await?;
    let date = |name: &String| NaiveDate::parse_from_str(name.strip_prefix("deliveries_")?, "%Y%m%d").ok();
    let mut days: Vec<Day> = names.iter().filter_map(date).map(Day::from).collect();
    days.sort_unstable();
    Ok(days)
}

/// Those of the days that have held deliveries. One look into an index for each.
pub async fn days_with_any(db: &Db, days: &[Day]) -> Result<Vec<Day>> {
    match those_with_any(db, days).await {
        // One of them was dropped just now.
        Err(StoreError::Refused { code, .. }) if code == UNDEFINED_TABLE => {
            let mut found = Vec::new();
            for day in days {
                found.extend(unless_dropped(those_with_any(db, &[*day]).await)?);
            }
            Ok(found)
        }
        answer => answer,
    }
}

async fn those_with_any(db: &Db, days: &[Day]) -> Result<Vec<Day>> {
    let any = |(n, day): (usize, &Day)| {
        let table = day.table("deliveries");
        format!("select {n} where exists (select from {table} where status = 'held')")
    };
    let text = days.iter().enumerate().map(any).collect::<Vec<_>>().join(" union all ");
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let found: Vec<i32> = db.run(async |c| sqlx::query_scalar(AssertSqlSafe(text)).fetch_all(c).await).await?;
    Ok(days.iter().enumerate().filter(|(n, _)| found.contains(&(*n as i32))).map(|(_, day)| *day).collect())
}

/// Takes the index that has the order. One that grew once and is nearly empty now looks dear: the planner would rather take another
/// one and sort, and use that plan until the next analyze, however much there is to sort by then.
async fn in_order_of_index<T>(c: &mut Conn, query: impl AsyncFnOnce(&mut Conn) -> sqlx::Result<T>) -> sqlx::Result<T> {
    // Dropped anywhere, it is rolled back before the connection does anything else.
    let mut tx = c.begin().await?;
    sqlx::raw_sql("set local enable_sort = off; set local enable_incremental_sort = off").execute(&mut *tx).await?;
    let result = query(&mut tx).await?;
    tx.commit().await?;
    Ok(result)
}

/// The next endpoints after the given one that have held deliveries of the day, in the order of their ids. It walks the
/// index from endpoint to endpoint, so the cost is the number of endpoints, not of rows.
pub async fn page(db: &Db, day: Day, after: Uuid, limit: i64) -> Result<Vec<HeldEndpoint>> {
    let text = format!(
        "with recursive h as (
           (select endpoint_id, next_attempt_at from {table}
             where status = 'held' and endpoint_id > $1 order by endpoint_id, next_attempt_at limit 1)
           union all
           select n.* from h cross join lateral (
             select d.endpoint_id, d.next_attempt_at from {table} d
              where d.status = 'held' and d.endpoint_id > h.endpoint_id
              order by d.endpoint_id, d.next_attempt_at limit 1) n)
         {held} from (select * from h limit $2) h left join posthaste.endpoints e on e.id = h.endpoint_id",
        table = day.table("deliveries"),
        held = held!(),
    );
    let page = async |c: &mut Conn| sqlx::query_as(AssertSqlSafe(text)).bind(after).bind(limit).fetch_all(c).await;
    let mut page: Vec<HeldEndpoint> = unless_dropped(db.run(async |c| in_order_of_index(c, page).await).await)?;
    page.sort_unstable_by_key(|held| held.endpoint_id);
    Ok(page)
}

/// Those of the given endpoints that have held deliveries of the day.
pub async fn of(db: &Db, day: Day, endpoints: &[Uuid]) -> Result<Vec<HeldEndpoint>> {
    if endpoints.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!(
        "{held} from (
           select k.endpoint_id, n.next_attempt_at from unnest($1::uuid[]) as k(endpoint_id) cross join lateral (
             select d.next_attempt_at from {table} d
              where d.status = 'held' and d.endpoint_id = k.endpoint_id order by d.next_attempt_at limit 1) n
           offset 0) h left join posthaste.endpoints e on e.id = h.endpoint_id",
        table = day.table("deliveries"),
        held = held!(),
    );
    let of = async |c: &mut Conn| sqlx::query_as(AssertSqlSafe(text)).bind(endpoints).fetch_all(c).await;
    unless_dropped(db.run(async |c| in_order_of_index(c, of).await).await)
}

/// What is read to find the endpoints with the most: endpoints of a day, held deliveries of one of them, and of all together.
const MOST_ENDPOINTS: i64 = 20_000;
const MOST_EACH: i64 = 10_000;
const MOST_IN_ALL: i64 = 100_000;

/// What is held for one endpoint.
#[derive(Debug, Clone, PartialEq, sqlx_macros::FromRow)]
pub struct Backlog {
    pub endpoint_id: Uuid,
    pub held: i64,
    /// The time of the first of them has come so long ago; negative: it will come.
    pub due_s: f64,
}

/// The endpoints with the most held deliveries of the days, the most first. It walks the index from endpoint to endpoint and reads
/// no more than the limits above: where more are held, endpoints with the highest ids may be left out.
pub async fn backlogs(db: &Db, days: &[Day], limit: usize) -> Result<Vec<Backlog>> {
    let mut all: HashMap<Uuid, Backlog> = HashMap::new();
    for day in days {
        let left = MOST_IN_ALL - all.values().map(|backlog| backlog.held).sum::<i64>();
        for of_day in backlogs_of(db, *day, left.max(0)).await? {
            let held = all.get(&of_day.endpoint_id).map_or(0, |before| before.held);
            let first = all.get(&of_day.endpoint_id).map_or(of_day.due_s, |before| before.due_s.max(of_day.due_s));
            all.insert(of_day.endpoint_id, Backlog { held: held + of_day.held, due_s: first, ..of_day });
        }
    }
    let mut most: Vec<Backlog> = all.into_values().collect();
    most.sort_unstable_by_key(|backlog| (Reverse(backlog.held), backlog.endpoint_id));
    most.truncate(limit);
    Ok(most)
}

async fn backlogs_of(db: &Db, day: Day, most: i64) -> Result<Vec<Backlog>> {
    let text = format!(
        "with recursive h as (
           (select endpoint_id, next_attempt_at from {table}
             where status = 'held' order by endpoint_id, next_attempt_at limit 1)
           union all
           select n.* from h cross join lateral (
             select d.endpoint_id, d.next_attempt_at from {table} d
              where d.status = 'held' and d.endpoint_id > h.endpoint_id
              order by d.endpoint_id, d.next_attempt_at limit 1) n)
         select endpoint_id, count(*) as held, extract(epoch from now() - min(next_attempt_at))::float8 as due_s from (
           select h.* from (select * from h limit {MOST_ENDPOINTS}) h cross join lateral (
             select from {table} d where d.status = 'held' and d.endpoint_id = h.endpoint_id limit {MOST_EACH}) one
            limit $1) counted
          group by 1",
        table = day.table("deliveries"),
    );
    unless_dropped(db.run(async |c| sqlx::query_as(AssertSqlSafe(text)).bind(most).fetch_all(c).await).await)
}

/// How many deliveries of the days are held. Counting stops at `most`, so that the gauge stays cheap in an outage.
pub async fn count(db: &Db, days: &[Day], most: i64) -> Result<i64> {
    let mut held = 0;
    for day in days {
        let table = day.table("deliveries");
        let text = format!("select count(*) from (select from {table} where status = 'held' limit $1) h");
        let left = most - held;
        let count = db.run(async |c| sqlx::query_scalar(AssertSqlSafe(text)).bind(left).fetch_one(c).await).await;
        held += unless_dropped::<i64>(count)?;
        if held >= most {
            break;
        }
    }
    Ok(held)
}
