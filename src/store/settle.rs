//! Settling: attempts and their deliveries' new states, one batched compare-and-set.

use std::borrow::Borrow;

use chrono::{DateTime, Utc};

use super::deliveries::{Raw, Snapshot, columns};
use super::{Db, Result};
use crate::domain::decision::Decision;
use crate::domain::ids::{self, DeliveryKey};

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
/// attempt succeeded. `domain::delivery::settle` says the same in Rust; a test holds the two against each other.
///
/// An endpoint that answered 410 is disabled in the same statement.
///
/// A double within one batch wins once, because the winners are joined by their place in the batch.
const SETTLE: &str = concat!(
    "
with s as (
  select * from unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::bigint[], $6::text[], $7::int[], $8::int[],
                       $9::text[], $10::int[], $11::timestamptz[], $12::text[], $13::text[], $14::text[])
    with ordinality as t(event_id, endpoint_id, n, verdict, delay_ms, reason, budget, code, error, duration_ms,
                         started_at, request_headers, response_headers, response_body, ord)
), u as (
  update posthaste.deliveries d
     set attempts = s.n, last_status_code = s.code, last_error = s.error, updated_at = now(),
         (status, next_attempt_at, dead_reason) = (
           select v.status,
                  case when v.status in ('retrying', 'held') then now() + s.delay_ms * interval '1 millisecond' end,
                  case when v.status <> 'dead' then null
                       when s.verdict = 'dead' then s.reason
                       when d.status = 'dead' then d.dead_reason
                       else 'exhausted' end
             from (select case when s.verdict = 'delivered' then 'delivered'
                               when s.verdict = 'dead' or d.status = 'dead'
                                 or s.n - d.base_attempts >= d.max_attempts
                                 or s.n - d.base_attempts > s.budget then 'dead'
                               when s.verdict = 'park' then 'held'
                               else 'retrying' end as status) v)
    from s
   where d.event_id = s.event_id and d.endpoint_id = s.endpoint_id
     and d.attempts = s.n - 1 and d.status <> 'delivered' and s.verdict <> 'not_spent'
     and d.event_id between $15 and $16
  returning s.ord, d.next_attempt_at, ",
    columns!(),
    "
), a as (
  insert into posthaste.attempts (event_id, endpoint_id, attempt, outcome, status_code, error, duration_ms, started_at,
                                  next_attempt_at, request_headers, response_headers, response_body, worker)
  select s.event_id, s.endpoint_id, s.n,
         case u.status when 'delivered' then 'delivered' when 'dead' then 'dead' else 'retry' end,
         s.code, s.error, s.duration_ms, s.started_at, u.next_attempt_at, s.request_headers::jsonb,
         s.response_headers::jsonb, s.response_body, $17
    from u join s on s.ord = u.ord
), gone as (
  update posthaste.endpoints e set status = 'disabled', disabled_reason = 'the endpoint answered 410'
   where e.status = 'enabled' and e.id in (select s.endpoint_id from u join s on s.ord = u.ord where s.reason = 'gone')
)
select ord, event_id, endpoint_id, status, attempts, base_attempts, max_attempts, dead_reason, last_status_code,
       last_error, due_in_ms
  from u"
);

#[derive(sqlx::FromRow)]
struct Won {
    ord: i64,
    #[sqlx(flatten)]
    raw: Raw,
}

/// Settles a batch. The answer has, for each settlement in order, the row as it is now, or `None` where another copy of
/// the message was faster: then the row must be read again.
pub async fn settle(db: &Db, worker: &str, batch: &[impl Borrow<Settlement>]) -> Result<Vec<Option<Snapshot>>> {
    let mut answers = vec![None; batch.len()];
    let batch: Vec<&Settlement> = batch.iter().map(Borrow::borrow).collect();
    // Sorted by key, so that two workers that settle the same rows cannot deadlock.
    let mut order: Vec<usize> = (0..batch.len()).collect();
    order.sort_by_key(|index| batch[*index].key);
    let sorted: Vec<&Settlement> = order.iter().map(|index| batch[*index]).collect();
    for won in run(db, worker, &sorted).await? {
        answers[order[won.ord as usize - 1]] = Some(won.raw.snapshot()?);
    }
    Ok(answers)
}

async fn run(db: &Db, worker: &str, batch: &[&Settlement]) -> Result<Vec<Won>> {
    let Some(bounds) = ids::bounds(batch.iter().map(|s| s.key.event_id)) else { return Ok(Vec::new()) };
    fn column<T>(batch: &[&Settlement], of: impl Fn(&Settlement) -> T) -> Vec<T> {
        batch.iter().map(|settlement| of(settlement)).collect()
    }
    db.run(async |c| {
        sqlx::query_as(SETTLE)
            .bind(column(batch, |s| s.key.event_id))
            .bind(column(batch, |s| s.key.endpoint_id))
            .bind(column(batch, |s| s.attempt))
            .bind(column(batch, |s| verdict(&s.decision)))
            .bind(column(batch, |s| delay_ms(&s.decision)))
            .bind(column(batch, |s| reason(&s.decision)))
            .bind(column(batch, |s| s.budget))
            .bind(column(batch, |s| s.status_code))
            .bind(column(batch, |s| s.error.clone()))
            .bind(column(batch, |s| s.duration_ms))
            .bind(column(batch, |s| s.started_at))
            .bind(column(batch, |s| as_json(&s.request_headers)))
            .bind(column(batch, |s| as_json(&s.response_headers)))
            .bind(column(batch, |s| s.response_body.clone()))
            .bind(bounds.start())
            .bind(bounds.end())
            .bind(worker)
            .fetch_all(c)
            .await
    })
    .await
}

fn verdict(decision: &Decision) -> &'static str {
    match decision {
        Decision::Delivered => "delivered",
        Decision::Dead(_) => "dead",
        Decision::Retry { .. } => "retry",
        Decision::Park { .. } => "park",
        // A fault of ours never gets here: it spends no attempt, so there is nothing to settle.
        Decision::NotSpent { .. } => "not_spent",
    }
}

fn delay_ms(decision: &Decision) -> Option<i64> {
    match decision {
        Decision::Retry { delay_ms } | Decision::Park { delay_ms, .. } | Decision::NotSpent { delay_ms } => {
            Some(*delay_ms as i64)
        }
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
fn as_json(headers: &Headers) -> String {
    let mut text = String::with_capacity(64 + headers.iter().map(|(n, v)| n.len() + v.len() + 6).sum::<usize>());
    text.push('{');
    for (index, (name, value)) in headers.iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        text.push_str(&serde_json::Value::from(name.as_str()).to_string());
        text.push(':');
        text.push_str(&serde_json::Value::from(value.as_str()).to_string());
    }
    text.push('}');
    text
}
