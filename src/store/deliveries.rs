//! Deliveries: reading rows, and the transitions that spend no attempt. Settling an attempt is in `settle`.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use sqlx::Arguments as _;
use sqlx::postgres::{PgArguments, PgBindIterExt};
use uuid::Uuid;

use super::days::{Arguments, Day, same_key};
use super::told::tell_dead;
use super::{Db, Result, StoreError, days};
use crate::domain::dead_reason::DeadReason;
use crate::domain::delivery::{Row, Status};
use crate::domain::ids::DeliveryKey;
use crate::domain::message::DeadLetterHeaders;

/// A delivery's row as the protocol sees it, and what a dead letter says about it.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub key: DeliveryKey,
    pub row: Row,
    pub last_status_code: Option<i32>,
    pub last_error: Option<String>,
    /// When it died, in Unix milliseconds.
    pub died_ms: Option<i64>,
    /// Its next attempt was begun before and did not end. Only what was read with `read` says so.
    pub suspected: bool,
}

impl Snapshot {
    pub fn dead_letter_headers(&self) -> DeadLetterHeaders {
        DeadLetterHeaders {
            reason: self.row.dead_reason.map_or("", DeadReason::as_str).to_owned(),
            last_status_code: self.last_status_code,
            last_error: self.last_error.clone(),
            attempts: self.row.attempts,
            died_ms: self.died_ms,
        }
    }
}

#[derive(sqlx_macros::FromRow)]
pub(super) struct Raw {
    event_id: Uuid,
    endpoint_id: Uuid,
    status: String,
    attempts: i32,
    base_attempts: i32,
    max_attempts: i32,
    due_in_ms: Option<i64>,
    dead_reason: Option<String>,
    last_status_code: Option<i32>,
    last_error: Option<String>,
    died_ms: Option<i64>,
    #[sqlx(default)]
    suspected: bool,
}

impl Raw {
    /// The row, unless it has a status that only a newer version knows: to this one it is not there, and what was asked
    /// beside it has its answer all the same.
    fn known(self) -> Option<Result<Snapshot>> {
        if Status::parse(&self.status).is_none() {
            tracing::error!(event_id = %self.event_id, endpoint_id = %self.endpoint_id, status = self.status,
                "a delivery has a status that this version does not know; it is left to newer ones");
            return None;
        }
        Some(self.snapshot())
    }

    pub(super) fn snapshot(self) -> Result<Snapshot> {
        let status = Status::parse(&self.status)
            .ok_or_else(|| StoreError::Other(format!("deliveries.status: '{}' is unknown", self.status)))?;
        Ok(Snapshot {
            key: DeliveryKey { event_id: self.event_id, endpoint_id: self.endpoint_id },
            row: Row {
                status,
                attempts: self.attempts,
                base_attempts: self.base_attempts,
                max_attempts: self.max_attempts,
                due_in_ms: self.due_in_ms,
                dead_reason: self.dead_reason.as_deref().and_then(DeadReason::parse),
            },
            last_status_code: self.last_status_code,
            last_error: self.last_error,
            died_ms: self.died_ms,
            suspected: self.suspected,
        })
    }
}

/// The columns of `Raw` for the alias `d`; times leave the database as distances, so only its clock counts.
macro_rules! columns {
    () => {
        "d.event_id, d.endpoint_id, d.status, d.attempts, d.base_attempts, d.max_attempts, d.dead_reason,
         d.last_status_code, d.last_error,
         case when d.status = 'dead' then floor(extract(epoch from d.updated_at) * 1000)::bigint end as died_ms,
         ceil(extract(epoch from d.next_attempt_at - now()) * 1000)::bigint as due_in_ms"
    };
}
pub(super) use columns;

/// The rows of the given keys, in no particular order; keys without a row are absent.
pub async fn read(db: &Db, keys: &[DeliveryKey]) -> Result<Vec<Snapshot>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let distinct: BTreeSet<DeliveryKey> = keys.iter().copied().collect();
    let day = days::only_day(distinct.iter().map(|key| key.event_id));
    let arguments = || {
        let mut arguments = PgArguments::default();
        arguments.add(distinct.iter().map(|key| key.event_id).bind_iter())?;
        arguments.add(distinct.iter().map(|key| key.endpoint_id).bind_iter())?;
        Ok(arguments)
    };
    let rows: Vec<Raw> = days::rows(db, day, READ, &arguments).await?;
    rows.into_iter().filter_map(Raw::known).collect()
}

pub const READ: &str = concat!(
    "select ",
    columns!(),
    ", exists (select from posthaste.suspects s
               where s.event_id = d.event_id and s.endpoint_id = d.endpoint_id and s.attempt = d.attempts + 1)
       as suspected
      from unnest($1::uuid[], $2::uuid[]) as k(event_id, endpoint_id) join posthaste.deliveries{day} d on ",
    same_key!("k")
);

pub(super) fn columns_of(keys: &[DeliveryKey]) -> (Vec<Uuid>, Vec<Uuid>) {
    keys.iter().map(|key| (key.event_id, key.endpoint_id)).unzip()
}

/// A delivery to take out of the broker's hands until `delay_ms` have passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    pub key: DeliveryKey,
    /// The attempt that its message asks for.
    pub attempt: i32,
    /// Until it may be released; negative: it goes before others that are due already.
    pub delay_ms: i64,
}

/// The status is hidden from the planner here and in `MARK_DEAD`: it would else take the index of due deliveries for a short cut
/// while the day is empty, and read all of it for each row later.
pub const HOLD: &str = concat!(
    "update posthaste.deliveries{day} d
        set status = 'held', next_attempt_at = now() + s.delay_ms * interval '1 millisecond', updated_at = now()
       from unnest($1::uuid[], $2::uuid[], $3::int[], $4::bigint[])
              with ordinality as s(event_id, endpoint_id, n, delay_ms, ord)
      where ",
    same_key!("s"),
    " and d.attempts = s.n - 1 and coalesce(d.status, '') in ('pending', 'retrying')
     returning s.ord"
);

/// As `HOLD`, for those that nobody has locked. It finds each row twice, so it is for the rare case.
pub const HOLD_UNLOCKED: &str = concat!(
    "with free as (
       select s.event_id, s.endpoint_id, s.delay_ms, s.ord
         from unnest($1::uuid[], $2::uuid[], $3::int[], $4::bigint[])
                with ordinality as s(event_id, endpoint_id, n, delay_ms, ord)
         join posthaste.deliveries{day} d on ",
    same_key!("s"),
    "   where d.attempts = s.n - 1 and coalesce(d.status, '') in ('pending', 'retrying')
          for no key update of d skip locked)
     update posthaste.deliveries{day} d
        set status = 'held', next_attempt_at = now() + s.delay_ms * interval '1 millisecond', updated_at = now()
       from free s where ",
    same_key!("s"),
    " returning s.ord"
);

/// Holds deliveries, in one statement. The answer has, for each in order, whether it is held now; false: its row has moved
/// on. Rows are changed in the order of their keys, so that two workers cannot deadlock.
pub async fn hold(db: &Db, holds: &[Hold]) -> Result<Vec<bool>> {
    hold_by(db, HOLD, holds).await
}

/// The same, waiting for nobody who has a row locked: such a row is not held, as if it had moved on.
pub async fn hold_unlocked(db: &Db, holds: &[Hold]) -> Result<Vec<bool>> {
    hold_by(db, HOLD_UNLOCKED, holds).await
}

async fn hold_by(db: &Db, statement: &'static str, holds: &[Hold]) -> Result<Vec<bool>> {
    let mut held = vec![false; holds.len()];
    if holds.is_empty() {
        return Ok(held);
    }
    let mut sorted: Vec<(usize, &Hold)> = holds.iter().enumerate().collect();
    sorted.sort_by_key(|(_, hold)| hold.key);
    let day = days::only_day(sorted.iter().map(|(_, hold)| hold.key.event_id));
    let won: Vec<(i64,)> = days::rows(db, day, statement, &|| hold_arguments(&sorted)).await?;
    won.into_iter().for_each(|(ord,)| held[sorted[ord as usize - 1].0] = true);
    Ok(held)
}

fn hold_arguments(sorted: &[(usize, &Hold)]) -> Arguments {
    let mut arguments = PgArguments::default();
    arguments.add(sorted.iter().map(|(_, hold)| hold.key.event_id).bind_iter())?;
    arguments.add(sorted.iter().map(|(_, hold)| hold.key.endpoint_id).bind_iter())?;
    arguments.add(sorted.iter().map(|(_, hold)| hold.attempt).bind_iter())?;
    arguments.add(sorted.iter().map(|(_, hold)| hold.delay_ms).bind_iter())?;
    Ok(arguments)
}

pub const MARK_DEAD: &str = concat!(
    "with u as (
     update posthaste.deliveries{day} d
        set status = 'dead', dead_reason = $4, next_attempt_at = null, updated_at = now(),
            last_error = coalesce($5, last_error)
      where event_id = $1 and endpoint_id = $2 and attempts = $3 - 1 and coalesce(status, '') in ('pending', 'retrying')
     returning ",
    columns!(),
    ") select u.*, ",
    tell_dead!("u"),
    " from u"
);

/// Ends a delivery without an attempt. Returns the row to write the dead letter from; `None`: the row has moved on.
pub async fn mark_dead(
    db: &Db,
    key: DeliveryKey,
    n: i32,
    reason: DeadReason,
    error: Option<&str>,
) -> Result<Option<Snapshot>> {
    let arguments = || {
        let mut arguments = PgArguments::default();
        arguments.add(key.event_id)?;
        arguments.add(key.endpoint_id)?;
        arguments.add(n)?;
        arguments.add(reason.as_str())?;
        arguments.add(error)?;
        Ok(arguments)
    };
    let rows: Vec<Raw> = days::rows(db, Some(Day::of(key.event_id)), MARK_DEAD, &arguments).await?;
    rows.into_iter().next().map(Raw::snapshot).transpose()
}

/// A delivery as an operator reads it.
#[derive(Debug, Clone, serde::Serialize, sqlx_macros::FromRow)]
pub struct Listed {
    pub event_id: Uuid,
    pub endpoint_id: Uuid,
    pub status: String,
    pub attempts: i32,
    pub base_attempts: i32,
    pub max_attempts: i32,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub last_status_code: Option<i32>,
    pub last_error: Option<String>,
    pub dead_reason: Option<String>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
    /// Of its endpoint, as it is now; null is the default one. Null, too, where the endpoint was removed.
    pub retry_policy: Option<String>,
}

/// The deliveries of one event; with an endpoint or a status, only those.
pub async fn of_event(db: &Db, event_id: Uuid, endpoint: Option<Uuid>, status: Option<Status>) -> Result<Vec<Listed>> {
    db.run(async |c| {
        sqlx::query_as(
            "select d.event_id, d.endpoint_id, d.status, d.attempts, d.base_attempts, d.max_attempts, d.next_attempt_at,
                    d.last_status_code, d.last_error, d.dead_reason, d.created_at, d.updated_at, p.retry_policy
               from posthaste.deliveries d left join posthaste.endpoints p on p.id = d.endpoint_id
              where d.event_id = $1 and ($2::uuid is null or d.endpoint_id = $2) and ($3::text is null or d.status = $3)
              order by d.endpoint_id limit 1000",
        )
        .bind(event_id)
        .bind(endpoint)
        .bind(status.map(Status::as_str))
        .fetch_all(c)
        .await
    })
    .await
}
