//! The end of days: what retention asks of a day, ends in it, and takes away. `migrations/0021_retention.sql` has the functions
//! that detach and drop.

use chrono::NaiveDate;
use sqlx::AssertSqlSafe;

use super::days::{Day, same_event, same_key};
use super::deliveries::{Snapshot, columns};
use super::due::of_event;
use super::held::unless_dropped;
use super::requeue::{Both, both};
use super::{Conn, Db, Result, StoreError};
use crate::domain::message::Message;
use crate::domain::retention::{Facts, Pin};

#[derive(Debug, Clone, Copy, Default, sqlx_macros::FromRow)]
struct Raw {
    unfinished: bool,
    in_outbox: bool,
    expired_at_ms: Option<i64>,
}

/// What a day says of itself: a few looks into indexes.
pub async fn facts(db: &Db, day: Day) -> Result<Facts> {
    let text = format!(
        "select exists (select from {deliveries} where status = 'held')
             or exists (select from {deliveries} where status in ('pending', 'retrying')) as unfinished,
                exists (select from posthaste.outbox where id >= $1 and id < $2) as in_outbox,
                (select (extract(epoch from expired_at) * 1000)::int8 from posthaste.history_days where day = $3)
                  as expired_at_ms",
        deliveries = day.table("deliveries"),
    );
    let ask = async |c: &mut Conn| {
        let query = sqlx::query_as(AssertSqlSafe(text)).bind(day.first_id()).bind(day.end_id());
        query.bind(day.date()).fetch_one(c).await
    };
    let Raw { unfinished, in_outbox, expired_at_ms } = unless_dropped(db.run(ask).await)?;
    Ok(Facts { unfinished, in_outbox, expired_at_ms })
}

/// The database's clock, as Unix time.
pub async fn now_ms(db: &Db) -> Result<i64> {
    db.run(async |c| sqlx::query_scalar("select (extract(epoch from now()) * 1000)::int8").fetch_one(c).await).await
}

/// Ends deliveries of the day as expired, at most `limit`: those that are held, and those on their way that have not changed for
/// so long. The day's account counts them in the same statement.
pub async fn expire(db: &Db, day: Day, idle_ms: i64, limit: u32) -> Result<Vec<(Message, Snapshot)>> {
    let text = format!(
        "with h as materialized (
           select event_id, endpoint_id from {deliveries} where status = 'held' limit {limit} for update skip locked
         ), w as materialized (
           select event_id, endpoint_id from {deliveries}
            where status in ('pending', 'retrying') and updated_at <= now() - $1 * interval '1 millisecond'
            limit {limit} for update skip locked
         ), r as materialized (
           select * from (select * from h union all select * from w) hw limit {limit}
         ), d as (
           update {deliveries} d set status = 'dead', dead_reason = 'expired', next_attempt_at = null, updated_at = now()
             from r where {same_key}
           returning d.*
         ), n as (
           insert into posthaste.history_days as n (day, expired, expired_at)
           select $2, count(*), now() from d having count(*) > 0
           on conflict (day) do update set expired = n.expired + excluded.expired, expired_at = excluded.expired_at)
         select {columns}, {event} from d join {events} e on {same_event}",
        deliveries = day.table("deliveries"),
        events = day.table("events"),
        same_key = same_key!("r"),
        same_event = same_event!("d"),
        columns = columns!(),
        event = of_event!(),
    );
    let end = async |c: &mut Conn| {
        sqlx::query_as::<_, Both>(AssertSqlSafe(text)).bind(idle_ms).bind(day.date()).fetch_all(c).await
    };
    both(unless_dropped(db.run(end).await)?)
}

/// Takes a day out of the history, if nothing keeps it: `Some` says what does. An error for which `StoreError::is_locked` means
/// that somebody uses it.
pub async fn detach(db: &Db, day: Day) -> Result<Option<Pin>> {
    let detach = sqlx::query_scalar("select posthaste.detach_day($1)").bind(day.date());
    let answer: String = db.run(async |c| detach.fetch_one(c).await).await?;
    match answer.as_str() {
        "detached" => Ok(None),
        "unfinished" => Ok(Some(Pin::Unfinished)),
        "outbox" => Ok(Some(Pin::Outbox)),
        other => Err(StoreError::Other(format!("posthaste.detach_day: '{other}' is unknown"))),
    }
}

/// How far a detached day has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropping {
    /// Some of its tables are left.
    Goes,
    Gone,
    /// It is part of the history, maybe again, since somebody needed it.
    Attached,
}

/// Drops one more table of a day that was detached.
pub async fn drop_detached(db: &Db, day: Day) -> Result<Dropping> {
    let drop = sqlx::query_scalar("select posthaste.drop_day($1)").bind(day.date());
    let answer: String = db.run(async |c| drop.fetch_one(c).await).await?;
    match answer.as_str() {
        "dropping" => Ok(Dropping::Goes),
        "dropped" => Ok(Dropping::Gone),
        "attached" => Ok(Dropping::Attached),
        other => Err(StoreError::Other(format!("posthaste.drop_day: '{other}' is unknown"))),
    }
}

/// Whether the day has tables at all.
pub async fn exists(db: &Db, day: Day) -> Result<bool> {
    let exists = sqlx::query_scalar("select to_regclass($1) is not null").bind(day.table("events"));
    db.run(async |c| exists.fetch_one(c).await).await
}

/// Days that were detached and not dropped: somebody died in between, or is about to drop them.
pub async fn detached(db: &Db) -> Result<Vec<Day>> {
    let days: Vec<NaiveDate> = db
        .run(async |c| {
            sqlx::query_scalar("select day from posthaste.history_days where detached_at is not null order by day")
                .fetch_all(c)
                .await
        })
        .await?;
    Ok(days.into_iter().map(Day::from).collect())
}
