//! Why endpoints are not sent to: reading it from the one place that has it, and the pause that an endpoint asks for.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::days::{Day, same_key};
use super::held::{self, unless_dropped};
use super::{Conn, Db, Result};

/// Held deliveries that one statement makes due.
const BATCH: u32 = 1_000;

/// One reason why an endpoint is not sent to, or not as fast as there is work for it.
#[derive(Debug, Clone, PartialEq, serde::Serialize, sqlx_macros::FromRow)]
pub struct Pause {
    #[serde(skip)]
    pub endpoint_id: Uuid,
    pub reason: String,
    pub since: Option<DateTime<Utc>>,
    /// Null where nobody knows: it ends when somebody or something else ends it.
    pub until: Option<DateTime<Utc>>,
}

/// The pauses of these endpoints, of each the ones that stop everything first.
pub async fn of(db: &Db, endpoints: &[Uuid]) -> Result<Vec<Pause>> {
    db.run(async |c| {
        sqlx::query_as(
            "select endpoint_id, reason, since, until from posthaste.endpoint_pauses where endpoint_id = any ($1)
              order by endpoint_id, array_position(
                array['disabled', 'circuit_open', 'circuit_half_open', 'slowed', 'rate_limit', 'behind'], reason)",
        )
        .bind(endpoints)
        .fetch_all(c)
        .await
    })
    .await
}

/// How many endpoints are paused, by reason. Who is behind is not asked for: that would read held deliveries.
pub async fn count(db: &Db) -> Result<Vec<(String, i64)>> {
    db.run(async |c| {
        sqlx::query_as("select reason, count(*) from posthaste.endpoint_restraints group by reason").fetch_all(c).await
    })
    .await
}

/// Nothing is sent to the endpoint for this long: it asked so. The longest wish counts. False: another worker has stored as
/// much, or somebody has the row locked; then every worker finds out by itself.
pub async fn pause(db: &Db, endpoint: Uuid, length: Duration) -> Result<bool> {
    let paused = db
        .run(async |c| {
            sqlx::query(
                "update posthaste.endpoints
                    set paused_at = case when paused_until > now() then paused_at else now() end,
                        paused_until = now() + $2 * interval '1 millisecond'
                  where id = (select id from posthaste.endpoints
                               where id = $1 and coalesce(paused_until < now() + ($2 - 1000) * interval '1 millisecond', true)
                                 for no key update skip locked)",
            )
            .bind(endpoint)
            .bind(length.as_millis() as f64)
            .execute(c)
            .await
        })
        .await?;
    Ok(paused.rows_affected() > 0)
}

/// Forgets pauses whose time is over. Returns their endpoints.
pub async fn end(db: &Db) -> Result<Vec<Uuid>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "update posthaste.endpoints set paused_at = null, paused_until = null
              where id = any (array(
                select id from posthaste.endpoints where paused_until <= now()
                 order by paused_until limit 500 for update skip locked))
              returning id",
        )
        .fetch_all(c)
        .await
    })
    .await
}

/// Lifts every pause of an endpoint that is enabled: what it asked for is over, workers forget what they learned of it, and
/// an open circuit becomes half open. False: there is no such endpoint, or it is disabled.
pub async fn resume(db: &Db, endpoint: Uuid) -> Result<bool> {
    let resumed = db
        .run(async |c| {
            sqlx::query(
                "update posthaste.endpoints
                    set resumed_at = now(), paused_until = least(paused_until, now()),
                        circuit_state = case circuit_state when 'open' then 'half_open' else circuit_state end
                  where id = $1 and status = 'enabled'",
            )
            .bind(endpoint)
            .execute(c)
            .await
        })
        .await?;
    Ok(resumed.rows_affected() > 0)
}

/// Brings the times of what is held for the endpoint forward: all of it may be released now, in the order that it had.
/// Batch by batch; what is interrupted can be done again.
pub async fn bring_forward(db: &Db, endpoint: Uuid) -> Result<u64> {
    let days = held::days(db).await?;
    let mut brought = 0;
    for day in held::days_with_any(db, &days).await? {
        loop {
            let batch = bring_forward_of(db, day, endpoint).await?;
            brought += batch;
            if batch < u64::from(BATCH) {
                break;
            }
        }
    }
    Ok(brought)
}

async fn bring_forward_of(db: &Db, day: Day, endpoint: Uuid) -> Result<u64> {
    let text = format!(
        "with r as materialized (
           select event_id, endpoint_id, row_number() over (order by next_attempt_at) as n from (
             select event_id, endpoint_id, next_attempt_at from {table}
              where status = 'held' and endpoint_id = $1 and next_attempt_at > now()
              order by next_attempt_at limit {BATCH} for update skip locked) h
         ), u as (
           update {table} d set next_attempt_at = now() - ({BATCH} - r.n) * interval '1 microsecond', updated_at = now()
             from r where {same_key} returning 1)
         select count(*) from u",
        table = day.table("deliveries"),
        same_key = same_key!("r"),
    );
    let brought = async |c: &mut Conn| sqlx::query_scalar(AssertSqlSafe(text)).bind(endpoint).fetch_one(c).await;
    Ok(unless_dropped::<i64>(db.run(brought).await)? as u64)
}
