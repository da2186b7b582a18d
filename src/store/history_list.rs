//! The days of history as an operator reads them: how large they are, and what keeps them.

use std::collections::BTreeMap;

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::AssertSqlSafe;

use super::days::Day;
use super::held::unless_dropped;
use super::{Conn, Db, Result};

/// What is counted row by row is counted up to here.
pub const MOST: i64 = 10_000;

/// One of the three tables of a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Table {
    /// As PostgreSQL estimates them; counted, up to `MOST`, where it has not yet.
    pub rows: i64,
    /// With indexes and large values.
    pub bytes: i64,
    /// It is part of the history.
    pub attached: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ListedDay {
    pub day: NaiveDate,
    pub events: Option<Table>,
    pub deliveries: Option<Table>,
    pub attempts: Option<Table>,
    /// Deliveries that are pending or retrying, up to `MOST`.
    pub on_their_way: i64,
    /// Up to `MOST`.
    pub held: i64,
    pub in_outbox: bool,
    /// Deliveries that retention has ended, and when it last did.
    pub expired: i64,
    pub expired_at: Option<DateTime<Utc>>,
}

impl ListedDay {
    fn tables(&self) -> impl Iterator<Item = &Table> {
        [&self.events, &self.deliveries, &self.attempts].into_iter().flatten()
    }

    pub fn bytes(&self) -> i64 {
        self.tables().map(|table| table.bytes).sum()
    }

    pub fn is_attached(&self) -> bool {
        self.tables().all(|table| table.attached)
    }

    pub fn is_unfinished(&self) -> bool {
        self.on_their_way > 0 || self.held > 0
    }
}

#[derive(sqlx_macros::FromRow)]
struct Found {
    parent: String,
    day: String,
    rows: i64,
    bytes: i64,
    attached: bool,
}

/// All days that have a table, in order, also detached ones.
pub async fn list(db: &Db) -> Result<Vec<ListedDay>> {
    const FOUND: &str = "
        select split_part(c.relname, '_', 1) as parent, split_part(c.relname, '_', 2) as day, c.reltuples::int8 as rows,
               coalesce(pg_total_relation_size(c.oid), 0) as bytes, c.relispartition as attached
          from pg_class c
         where c.relnamespace = 'posthaste'::regnamespace and c.relkind = 'r'
           and c.relname ~ '^(events|deliveries|attempts)_[0-9]{8}$'";
    let found: Vec<Found> = db.run(async |c| sqlx::query_as(FOUND).fetch_all(c).await).await?;
    let mut days: BTreeMap<NaiveDate, BTreeMap<String, Table>> = BTreeMap::new();
    for Found { parent, day, rows, bytes, attached } in found {
        let Ok(date) = NaiveDate::parse_from_str(&day, "%Y%m%d") else { continue };
        let rows = if rows < 0 { count(db, Day::from(date), &parent).await? } else { rows };
        days.entry(date).or_default().insert(parent, Table { rows, bytes, attached });
    }
    let mut listed = Vec::new();
    for (date, mut tables) in days {
        let mut table = |parent: &str| tables.remove(parent);
        let (events, deliveries, attempts) = (table("events"), table("deliveries"), table("attempts"));
        let waits = waits(db, Day::from(date)).await?;
        listed.push(ListedDay {
            day: date,
            events,
            deliveries,
            attempts,
            on_their_way: waits.on_their_way,
            held: waits.held,
            in_outbox: waits.in_outbox,
            expired: waits.expired,
            expired_at: waits.expired_at,
        });
    }
    Ok(listed)
}

async fn count(db: &Db, day: Day, parent: &str) -> Result<i64> {
    let text = format!("select count(*) from (select from {} limit {MOST}) t", day.table(parent));
    unless_dropped(db.run(async |c| sqlx::query_scalar(AssertSqlSafe(text)).fetch_one(c).await).await)
}

#[derive(Default, sqlx_macros::FromRow)]
struct Waits {
    on_their_way: i64,
    held: i64,
    in_outbox: bool,
    expired: i64,
    expired_at: Option<DateTime<Utc>>,
}

async fn waits(db: &Db, day: Day) -> Result<Waits> {
    let text = format!(
        "select (select count(*) from (select from {t} where status in ('pending', 'retrying') limit {MOST}) w) as on_their_way,
                (select count(*) from (select from {t} where status = 'held' limit {MOST}) h) as held,
                exists (select from posthaste.outbox where id >= $1 and id < $2) as in_outbox,
                coalesce(n.expired, 0) as expired, n.expired_at
           from (select) as always left join posthaste.history_days n on n.day = $3",
        t = day.table("deliveries"),
    );
    let ask = async |c: &mut Conn| {
        let query = sqlx::query_as(AssertSqlSafe(text)).bind(day.first_id()).bind(day.end_id());
        query.bind(day.date()).fetch_one(c).await
    };
    unless_dropped(db.run(ask).await)
}
