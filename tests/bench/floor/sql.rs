//! The statements alone, as simple as they can be: events move from the outbox to the history in batches, and are recorded as
//! delivered in batches. Nothing is decided, matched, compared or answered.

use std::time::Instant;

use sqlx::PgPool;
use tokio::task::JoinSet;

use super::Part;
use crate::bench::work::{KIB, Work, commit};
use crate::isolation::stack::Stack;

/// Sessions at work.
const SESSIONS: usize = 4;
/// Events of a statement.
const BATCH: i64 = 200;
const ENDPOINT: &str = "01a203e0-23fc-705e-8d5e-f952401a4268";

const MOVE: &str = "with c as (
    delete from posthaste.outbox where ctid = any (array(
      select ctid from posthaste.outbox order by id limit $1 for update skip locked))
    returning id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at), e as (
    insert into posthaste.events (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at, matched)
    select c.*, 1 from c)
  insert into posthaste.deliveries (event_id, endpoint_id, max_attempts) select id, $2::uuid, 5 from c
  returning event_id";
const SETTLE: &str = "with d as (
    update posthaste.deliveries set status = 'delivered', attempts = 1, next_attempt_at = null, last_status_code = 200,
           updated_at = now()
     where event_id = any ($1) and endpoint_id = $2::uuid
    returning event_id, endpoint_id)
  insert into posthaste.attempts (event_id, endpoint_id, attempt, outcome, status_code, duration_ms, started_at,
         request_headers, response_headers, response_body, worker)
  select event_id, endpoint_id, 1, 'delivered', 200, 2, now(), $3::text::jsonb, $4::text::jsonb, '', 'bench' from d";
/// As long as those of a delivery to the lab's receiver.
const REQUEST: &str = r#"{"content-type":"application/json","webhook-id":"01a203e0-23fc-705e-8d5e-f952401a4268","webhook-timestamp":"1795946400","webhook-signature":"v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=","user-agent":"posthaste/0.2.0"}"#;
const RESPONSE: &str = r#"{"content-length":"0"}"#;

pub async fn measure(stack: &Stack, events: usize) -> Result<Part, String> {
    let db = &stack.db;
    let days =
        "select posthaste.create_partitions(d - 1, d + 1) from (select (now() at time zone 'utc')::date) as t (d)";
    sqlx::query(days).execute(db).await.map_err(|error| error.to_string())?;
    let tenants = ["floor".to_owned()];
    let work = |events| Work { tenants: &tenants, sites: &[], events, each: 1, bytes: KIB };
    commit(db, &work(events / 10)).await?;
    drain(db).await?;
    commit(db, &work(events)).await?;
    let (began, cpu) = (Instant::now(), stack.cpu());
    drain(db).await?;
    let seconds = began.elapsed().as_secs_f64();
    let used = (stack.cpu() - cpu).scaled(1e6 / events as f64);
    // The sessions of this program are those that do the work here.
    let server_us = used.postgres + used.producers;
    Ok(Part { server_us, client_us: used.program, per_second: events as f64 / seconds })
}

async fn drain(db: &PgPool) -> Result<(), String> {
    let mut sessions = JoinSet::new();
    for _ in 0..SESSIONS {
        sessions.spawn(session(db.clone()));
    }
    let done: sqlx::Result<Vec<()>> = sessions.join_all().await.into_iter().collect();
    done.map(drop).map_err(|error| error.to_string())
}

async fn session(db: PgPool) -> sqlx::Result<()> {
    let mut session = db.acquire().await?;
    // As sessions of the service: a plan that reads a whole table would be no floor.
    sqlx::query("set enable_seqscan = off").execute(&mut *session).await?;
    sqlx::query("set jit = off").execute(&mut *session).await?;
    loop {
        // As the relay claims.
        sqlx::query("set synchronous_commit = off").execute(&mut *session).await?;
        let moved: Vec<uuid::Uuid> =
            sqlx::query_scalar(MOVE).bind(BATCH).bind(ENDPOINT).fetch_all(&mut *session).await?;
        sqlx::query("reset synchronous_commit").execute(&mut *session).await?;
        if moved.is_empty() {
            return Ok(());
        }
        let settle = sqlx::query(SETTLE).bind(moved).bind(ENDPOINT).bind(REQUEST).bind(RESPONSE);
        settle.execute(&mut *session).await?;
    }
}
