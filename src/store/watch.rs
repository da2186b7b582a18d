//! What is going on just now: cheap enough to be asked every second.

use uuid::Uuid;

use super::{Db, Result, held};

/// Nothing is counted beyond this.
pub const MOST: i64 = 100_000;

/// What PostgreSQL has counted since its statistics were last reset; the difference of two readings is a rate. It also counts
/// what was rolled back, and sessions report about once a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, sqlx_macros::FromRow)]
pub struct Counters {
    pub emitted: i64,
    pub claimed: i64,
    pub deliveries: i64,
    pub attempts: i64,
}

pub async fn counters(db: &Db) -> Result<Counters> {
    db.run(async |c| {
        sqlx::query_as(
            r"select coalesce(sum(n_tup_ins) filter (where relname = 'outbox'), 0)::bigint as emitted,
                     coalesce(sum(n_tup_del) filter (where relname = 'outbox'), 0)::bigint as claimed,
                     coalesce(sum(n_tup_ins) filter (where relname like 'deliveries\_%'), 0)::bigint as deliveries,
                     coalesce(sum(n_tup_ins) filter (where relname like 'attempts\_%'), 0)::bigint as attempts
                from pg_stat_user_tables where schemaname = 'posthaste'",
        )
        .fetch_one(c)
        .await
    })
    .await
}

/// What is not finished, up to `MOST` of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Unfinished {
    pub retrying: i64,
    pub held: i64,
}

pub async fn unfinished(db: &Db) -> Result<Unfinished> {
    let retrying = "select count(*) from (select from posthaste.deliveries where status = 'retrying' limit $1) r";
    let retrying = db.run(async |c| sqlx::query_scalar(retrying).bind(MOST).fetch_one(c).await).await?;
    let days = held::days(db).await?;
    Ok(Unfinished { retrying, held: held::count(db, &days, MOST).await? })
}

/// How long the newest marker took through each work queue, in seconds.
pub async fn latencies(db: &Db) -> Result<Vec<(String, f64)>> {
    db.run(async |c| {
        sqlx::query_as(
            "select distinct on (queue) queue, extract(epoch from recorded_at - published_at)::float8
               from posthaste.markers order by queue, published_at desc",
        )
        .fetch_all(c)
        .await
    })
    .await
}

/// Attempts of about the last minute, as the workers report them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, sqlx_macros::FromRow)]
pub struct Recent {
    pub attempts: i64,
    pub failures: i64,
    pub in_flight: i64,
}

pub async fn recent(db: &Db) -> Result<Recent> {
    db.run(async |c| {
        sqlx::query_as(
            "select coalesce(sum(attempts), 0)::bigint as attempts, coalesce(sum(failures), 0)::bigint as failures,
                    coalesce(sum(in_flight) filter (where reported_at > now() - interval '10 seconds'), 0)::bigint as in_flight
               from posthaste.endpoint_activity where reported_at > now() - interval '1 minute'",
        )
        .fetch_one(c)
        .await
    })
    .await
}

/// An endpoint with failures in about the last minute.
#[derive(Debug, Clone, PartialEq, serde::Serialize, sqlx_macros::FromRow)]
pub struct Failing {
    pub endpoint_id: Uuid,
    pub tenant: String,
    pub circuit: String,
    pub attempts: i64,
    pub failures: i64,
    pub last_error: Option<String>,
}

/// Those with the most failures first.
pub async fn failing(db: &Db, limit: i64) -> Result<Vec<Failing>> {
    db.run(async |c| {
        sqlx::query_as(
            "select a.endpoint_id, e.tenant, e.circuit_state as circuit, sum(a.attempts)::bigint as attempts,
                    sum(a.failures)::bigint as failures,
                    (array_agg(a.last_error order by a.last_error_at desc nulls last))[1] as last_error
               from posthaste.endpoint_activity a join posthaste.endpoints e on e.id = a.endpoint_id
              where a.reported_at > now() - interval '1 minute' and a.failures > 0
              group by 1, 2, 3 order by failures desc, 1 limit $1",
        )
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .await
}
