//! Settling: attempts and their deliveries' new states, one batched compare-and-set.

use std::borrow::Borrow;

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use sqlx::Arguments as _;
use sqlx::postgres::{PgArguments, PgBindIterExt};

use super::days::{Arguments, same_key};
use super::deliveries::{Raw, Snapshot, columns};
use super::told::tell_dead;
use super::{Db, Result, days};
use crate::domain::decision::Decision;
use crate::domain::ids::DeliveryKey;

/// Header names and values, in order.
pub type Headers = Vec<(String, String)>;

/// One finished attempt and what was decided.
#[derive(Debug, Clone)]
pub struct Settlement {
    pub key: DeliveryKey,
    pub attempt: i32,
    pub decision: Decision,
    /// Retries allowed at run time, where a budget is set.
    pub budget: Option<i32>,
    pub status_code: Option<i32>,
    pub error: Option<String>,
    pub duration_ms: i32,
    pub started_at: DateTime<Utc>,
    pub request_headers: Headers,
    pub response_headers: Headers,
    pub response_body: Option<String>,
}

/// The row decides: whether the attempts are exhausted comes from its own ceiling, and a dead row stays dead unless the
/// attempt succeeded, or erased whatever comes. `domain::delivery::settle` says the same in Rust; a test holds the two against each other.
///
/// An endpoint that answered 410 is disabled in the same statement, unless somebody has its row locked: the attempts of
/// others must not wait for that. Then `endpoints::disable_gone` does it.
///
/// A double within one batch wins once, because the attempts are recorded from the rows that were changed.
pub const SETTLE: &str = concat!(
    "
with u as (
  update posthaste.deliveries{day} d
     set attempts = s.n, last_status_code = s.code, last_error = s.error, updated_at = now(),
         (status, next_attempt_at, dead_reason) = (
           select v.status,
                  case when v.status in ('retrying', 'held') then now() + s.delay_ms * interval '1 millisecond' end,
                  case when v.status <> 'dead' then null
                       when s.decision = 'dead' then s.reason
                       when d.status = 'dead' then d.dead_reason
                       else 'exhausted' end
             from (select case when s.decision = 'delivered' then 'delivered'
                               when s.decision = 'dead' or d.status = 'dead'
                                 or s.n - d.base_attempts >= d.max_attempts
                                 or s.n - d.base_attempts > s.budget then 'dead'
                               when s.decision = 'park' then 'held'
                               else 'retrying' end as status) v)
    from unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::bigint[], $6::text[], $7::int[], $8::int[],
                $9::text[], $10::int[], $11::timestamptz[], $12::text[], $13::text[], $14::text[])
    with ordinality as s(event_id, endpoint_id, n, decision, delay_ms, reason, budget, code, error, duration_ms,
                         started_at, request_headers, response_headers, response_body, ord)
   where ",
    same_key!("s"),
    "
     and d.attempts = s.n - 1 and d.status <> 'delivered' and d.dead_reason is distinct from 'erased'
  returning s.ord, d.next_attempt_at, s.reason, s.duration_ms, s.started_at, s.request_headers, s.response_headers,
            s.response_body, ",
    columns!(),
    "
), a as (
  insert into posthaste.attempts{day}
    (event_id, endpoint_id, attempt, outcome, status_code, error, duration_ms, started_at, next_attempt_at,
     request_headers, response_headers, response_body, worker)
  select u.event_id, u.endpoint_id, u.attempts,
         case u.status when 'delivered' then 'delivered' when 'dead' then 'dead' else 'retry' end,
         u.last_status_code, u.last_error, u.duration_ms, u.started_at, u.next_attempt_at, u.request_headers::jsonb,
         u.response_headers::jsonb, u.response_body, $15
    from u
), free as (
  select id from posthaste.endpoints
   where status = 'enabled' and id = any (array(select u.endpoint_id from u where u.reason = 'gone'))
     for no key update skip locked
), gone as (
  update posthaste.endpoints e set status = 'disabled', disabled_reason = 'the endpoint answered 410'
    from free where e.id = free.id
)
select ord, event_id, endpoint_id, status, attempts, base_attempts, max_attempts, dead_reason, last_status_code,
       last_error, died_ms, due_in_ms, ",
    tell_dead!("u"),
    "
  from u"
);

#[derive(sqlx_macros::FromRow)]
struct Won {
    ord: i64,
    #[sqlx(flatten)]
    raw: Raw,
}

/// Settles a batch. The answer has, for each settlement in order, the row as it is now, or `None` where another copy of
/// the message was faster: then the row must be read again.
pub async fn settle(db: &Db, worker: &str, batch: &[impl Borrow<Settlement>]) -> Result<Vec<Option<Snapshot>>> {
    let mut answers = vec![None; batch.len()];
    if batch.is_empty() {
        return Ok(answers);
    }
    // Sorted by key, so that two workers that settle the same rows cannot deadlock.
    let mut sorted: Vec<(usize, &Settlement)> = batch.iter().map(Borrow::borrow).enumerate().collect();
    sorted.sort_by_key(|(_, settlement)| settlement.key);
    let day = days::only_day(sorted.iter().map(|(_, settlement)| settlement.key.event_id));
    let won: Vec<Won> = days::rows(db, day, SETTLE, &|| arguments(worker, &sorted)).await?;
    for won in won {
        answers[sorted[won.ord as usize - 1].0] = Some(won.raw.snapshot()?);
    }
    Ok(answers)
}

/// Written straight from the settlements: their texts may be large.
fn arguments(worker: &str, sorted: &[(usize, &Settlement)]) -> Arguments {
    let batch = || sorted.iter().map(|(_, settlement)| *settlement);
    let mut arguments = PgArguments::default();
    arguments.add(batch().map(|s| s.key.event_id).bind_iter())?;
    arguments.add(batch().map(|s| s.key.endpoint_id).bind_iter())?;
    arguments.add(batch().map(|s| s.attempt).bind_iter())?;
    arguments.add(batch().map(|s| name(&s.decision)).bind_iter())?;
    arguments.add(batch().map(|s| delay_ms(&s.decision)).bind_iter())?;
    arguments.add(batch().map(|s| reason(&s.decision)).bind_iter())?;
    arguments.add(batch().map(|s| s.budget).bind_iter())?;
    arguments.add(batch().map(|s| s.status_code).bind_iter())?;
    arguments.add(batch().map(|s| s.error.as_deref()).bind_iter())?;
    arguments.add(batch().map(|s| s.duration_ms).bind_iter())?;
    arguments.add(batch().map(|s| s.started_at).bind_iter())?;
    arguments.add(batch().map(|s| as_json(&s.request_headers)).bind_iter())?;
    arguments.add(batch().map(|s| as_json(&s.response_headers)).bind_iter())?;
    arguments.add(batch().map(|s| s.response_body.as_deref()).bind_iter())?;
    arguments.add(worker)?;
    Ok(arguments)
}

fn name(decision: &Decision) -> &'static str {
    match decision {
        Decision::Delivered => "delivered",
        Decision::Dead(_) => "dead",
        Decision::Retry { .. } => "retry",
        Decision::Park { .. } => "park",
    }
}

fn delay_ms(decision: &Decision) -> Option<i64> {
    match decision {
        Decision::Retry { delay_ms } | Decision::Park { delay_ms, .. } => Some(*delay_ms as i64),
        Decision::Delivered | Decision::Dead(_) => None,
    }
}

fn reason(decision: &Decision) -> Option<&'static str> {
    match decision {
        Decision::Dead(reason) => Some(reason.as_str()),
        _ => None,
    }
}

/// An object, as readers expect it; of a repeated header PostgreSQL keeps the last value. No header holds a NUL, which
/// JSON in PostgreSQL could not.
struct Object<'a>(&'a Headers);

impl Serialize for Object<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

fn as_json(headers: &Headers) -> String {
    // Strings alone cannot fail to be written; an empty object would only hide a header.
    serde_json::to_string(&Object(headers)).unwrap_or_else(|_| "{}".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_become_an_object_whatever_they_hold() {
        let headers = [("a", "plain"), ("b", "quo\"te \\ \u{1}\n"), ("a", "ümlaut")];
        let headers: Headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
        assert_eq!(as_json(&headers), r#"{"a":"plain","b":"quo\"te \\ \u0001\n","a":"ümlaut"}"#);
        assert_eq!(as_json(&Headers::new()), "{}");
    }
}
