//! The circuit of an endpoint, as all replicas share it. Every change is a compare-and-set on the state, so of several
//! workers that come to the same conclusion one makes the change. None waits for a row that somebody has locked: with many
//! such endpoints no connection would be left for anything else. What cannot be stored now is asked for again.

use std::time::Duration;

use uuid::Uuid;

use super::{Db, Result};
use crate::domain::circuit::Circuit;

/// Opens a circuit that is as it was when the failed attempt began. False: somebody else has changed it; a probe that fails
/// after another one has closed the circuit does not open it again, nor one from before an operator enabled or resumed the
/// endpoint. `resumed_us`: when that last happened, in Unix microseconds.
pub async fn open(db: &Db, endpoint: Uuid, from: Circuit, resumed_us: i64, cooldown_ms: u64) -> Result<bool> {
    let opened = db
        .run(async |c| {
            sqlx::query(
                "update posthaste.endpoints
                    set circuit_state = 'open', circuit_trips = circuit_trips + 1,
                        circuit_opened_at = coalesce(circuit_opened_at, now()),
                        circuit_until = now() + $2 * interval '1 millisecond'
                  where id = (select id from posthaste.endpoints
                               where id = $1 and circuit_state = $3 and circuit_trips = $4
                                 and coalesce((extract(epoch from resumed_at) * 1000000)::bigint, 0) = $5
                               for no key update skip locked)",
            )
            .bind(endpoint)
            .bind(cooldown_ms as f64)
            .bind(from.state.as_str())
            .bind(i32::try_from(from.trips).unwrap_or(i32::MAX))
            .bind(resumed_us)
            .execute(c)
            .await
        })
        .await?;
    Ok(opened.rows_affected() > 0)
}

/// A probe was delivered. The count of openings stays: the endpoint is on probation.
pub async fn close(db: &Db, endpoint: Uuid) -> Result<bool> {
    let close = "update posthaste.endpoints
            set circuit_state = 'closed', circuit_opened_at = null, circuit_until = null
          where id = (select id from posthaste.endpoints where id = $1 and circuit_state = 'half_open'
                       for no key update skip locked)";
    change(db, close, endpoint).await
}

/// The end of probation.
pub async fn heal(db: &Db, endpoint: Uuid) -> Result<bool> {
    let heal = "update posthaste.endpoints set circuit_trips = 0
          where id = (select id from posthaste.endpoints where id = $1 and circuit_state = 'closed' and circuit_trips > 0
                       for no key update skip locked)";
    change(db, heal, endpoint).await
}

async fn change(db: &Db, statement: &'static str, endpoint: Uuid) -> Result<bool> {
    let changed = db.run(async |c| sqlx::query(statement).bind(endpoint).execute(c).await).await?;
    Ok(changed.rows_affected() > 0)
}

/// Circuits whose cool-down has passed become half open, a batch at a time. Returns their endpoints.
pub async fn half_open_due(db: &Db) -> Result<Vec<Uuid>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "update posthaste.endpoints set circuit_state = 'half_open'
              where id = any (array(
                select id from posthaste.endpoints
                 where circuit_state = 'open' and circuit_until <= now() and status = 'enabled'
                 order by circuit_until limit 500 for update skip locked))
              returning id",
        )
        .fetch_all(c)
        .await
    })
    .await
}

/// Where the rules are off, no circuit stays open.
pub async fn close_all(db: &Db) -> Result<u64> {
    let closed = db
        .run(async |c| {
            sqlx::query(
                "update posthaste.endpoints
                    set circuit_state = 'closed', circuit_opened_at = null, circuit_until = null, circuit_trips = 0
                  where circuit_state <> 'closed'",
            )
            .execute(c)
            .await
        })
        .await?;
    Ok(closed.rows_affected())
}

/// Disables endpoints whose circuit has not been closed for this long, with the reason. Returns them.
pub async fn disable_stale(db: &Db, after: Duration) -> Result<Vec<Uuid>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "update posthaste.endpoints
                set status = 'disabled', disabled_reason = 'the circuit has been open since ' ||
                    to_char(circuit_opened_at at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')
              where status = 'enabled' and circuit_state <> 'closed'
                and circuit_opened_at <= now() - $1 * interval '1 second'
              returning id",
        )
        .bind(after.as_secs_f64())
        .fetch_all(c)
        .await
    })
    .await
}

/// Circuits that are not closed, for the gauge.
pub async fn count_open(db: &Db) -> Result<i64> {
    db.run(async |c| {
        sqlx::query_scalar("select count(*) from posthaste.endpoints where circuit_state <> 'closed'")
            .fetch_one(c)
            .await
    })
    .await
}
