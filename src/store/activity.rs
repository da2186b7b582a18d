//! What workers report of the endpoints that they are busy with: figures for operators.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, Result};

/// One worker's figures of one endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    pub endpoint_id: Uuid,
    pub in_flight: i32,
    /// Of about the last minute.
    pub attempts: i32,
    pub failures: i32,
    pub last_error: Option<LastError>,
    pub limited: Option<Limited>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastError {
    pub error: String,
    /// So long ago.
    pub ago_ms: i64,
}

/// What a worker makes an endpoint wait for: since so long ago, and for so much longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    pub by: &'static str,
    pub since_ms: i64,
    pub for_ms: i64,
}

/// The figures of an endpoint over all workers.
#[derive(Debug, Clone, Default, serde::Serialize, sqlx_macros::FromRow)]
pub struct Activity {
    pub endpoint_id: Uuid,
    pub held: i64,
    pub in_flight: i64,
    /// Failed attempts of about the last minute, as a share of all; null without any.
    pub recent_failure_share: Option<f64>,
    pub last_error: Option<String>,
    pub last_error_at: Option<DateTime<Utc>>,
}

/// Replaces what this worker has said before of these endpoints.
pub async fn report(db: &Db, worker: &str, reports: &[Report]) -> Result<()> {
    fn column<T>(reports: &[Report], of: impl Fn(&Report) -> T) -> Vec<T> {
        reports.iter().map(of).collect()
    }
    db.run(async |c| {
        sqlx::query(
            "insert into posthaste.endpoint_activity as a
                    (worker, endpoint_id, in_flight, attempts, failures, last_error, last_error_at, limited_by, limited_since,
                     limited_until)
             select $1, r.id, r.in_flight, r.attempts, r.failures, r.error, now() - r.error_ms * interval '1 millisecond',
                    r.limited_by,
                    now() - r.since_ms * interval '1 millisecond', now() + r.for_ms * interval '1 millisecond'
               from unnest($2::uuid[], $3::int[], $4::int[], $5::int[], $6::text[], $7::text[], $8::bigint[], $9::bigint[],
                           $10::bigint[])
                 as r(id, in_flight, attempts, failures, error, limited_by, since_ms, for_ms, error_ms)
             on conflict (endpoint_id, worker) do update
                set in_flight = excluded.in_flight, attempts = excluded.attempts, failures = excluded.failures,
                    last_error = coalesce(excluded.last_error, a.last_error),
                    last_error_at = coalesce(excluded.last_error_at, a.last_error_at), limited_by = excluded.limited_by,
                    limited_since = excluded.limited_since, limited_until = excluded.limited_until, reported_at = now()",
        )
        .bind(worker)
        .bind(column(reports, |r| r.endpoint_id))
        .bind(column(reports, |r| r.in_flight))
        .bind(column(reports, |r| r.attempts))
        .bind(column(reports, |r| r.failures))
        .bind(column(reports, |r| r.last_error.as_ref().map(|last| last.error.clone())))
        .bind(column(reports, |r| r.limited.map(|limited| limited.by)))
        .bind(column(reports, |r| r.limited.map(|limited| limited.since_ms)))
        .bind(column(reports, |r| r.limited.map(|limited| limited.for_ms)))
        .bind(column(reports, |r| r.last_error.as_ref().map(|last| last.ago_ms)))
        .execute(c)
        .await
    })
    .await
    .map(drop)
}

/// What is known of these endpoints now. A worker that has said nothing for some seconds has nothing in flight.
pub async fn read(db: &Db, endpoints: &[Uuid]) -> Result<Vec<Activity>> {
    db.run(async |c| {
        sqlx::query_as(
            "select e.id as endpoint_id, h.held, coalesce(a.in_flight, 0) as in_flight,
                    a.failures / nullif(a.attempts, 0)::float8 as recent_failure_share, a.last_error, a.last_error_at
               from unnest($1::uuid[]) as e(id)
              cross join lateral (select count(*) as held from posthaste.deliveries d
                                   where d.endpoint_id = e.id and d.status = 'held') h
              cross join lateral (
                select sum(in_flight) filter (where reported_at > now() - interval '10 seconds') as in_flight,
                       sum(attempts) filter (where reported_at > now() - interval '1 minute') as attempts,
                       sum(failures) filter (where reported_at > now() - interval '1 minute') as failures,
                       (array_agg(last_error order by last_error_at desc nulls last)
                          filter (where last_error is not null))[1] as last_error,
                       max(last_error_at) as last_error_at
                  from posthaste.endpoint_activity where endpoint_id = e.id) a
              order by e.id",
        )
        .bind(endpoints)
        .fetch_all(c)
        .await
    })
    .await
}

/// Forgets reports of workers that are gone, and of endpoints that nothing happens at, after a day.
pub async fn prune(db: &Db) -> Result<u64> {
    let removed = db
        .run(async |c| {
            sqlx::query("delete from posthaste.endpoint_activity where reported_at < now() - interval '1 day'")
                .execute(c)
                .await
        })
        .await?;
    Ok(removed.rows_affected())
}
