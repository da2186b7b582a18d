//! Producers: a steady stream of single commits whose time is known, streams that only make load, and bursts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::isolation::stack::Customer;

const PAYLOAD: &str = r#"{"order_id": 17, "item": "a box of tea", "price": "4.20", "currency": "EUR"}"#;
const TYPE: &str = "order.created";
/// Events of a burst that are committed together.
const BATCH: usize = 500;
/// How often a stream commits. Short, since what is committed together comes at once, which a thousand customers do not do;
/// and no part of the 20 ms between two healthy events, which would all be committed beside such a lump otherwise.
const TICK: Duration = Duration::from_millis(3);

/// One event that was committed by itself.
#[derive(Debug, Clone, Copy)]
pub struct Sent {
    pub id: Uuid,
    /// Which of the customers it is for.
    pub customer: usize,
    /// Just after the commit had returned.
    pub at: Instant,
}

/// Commits events one by one, evenly spaced, until `time` has passed. A commit that takes long delays no other one.
/// `choose`: whom event number n is for.
pub async fn steady(
    db: &PgPool,
    customers: Arc<Vec<Customer>>,
    rate: f64,
    time: Duration,
    choose: impl Fn(usize) -> usize,
) -> Result<Vec<Sent>, String> {
    steady_while(db, customers, rate, |due| due < time, choose).await
}

/// The same, as long as it is told to go on; it is asked with the time at which the next event is due.
pub async fn steady_while(
    db: &PgPool,
    customers: Arc<Vec<Customer>>,
    rate: f64,
    go_on: impl Fn(Duration) -> bool,
    choose: impl Fn(usize) -> usize,
) -> Result<Vec<Sent>, String> {
    let began = tokio::time::Instant::now();
    let mut commits = JoinSet::new();
    for number in 0.. {
        let due = Duration::from_secs_f64(number as f64 / rate);
        if !go_on(due) {
            break;
        }
        tokio::time::sleep_until(began + due).await;
        let (db, customer) = (db.clone(), choose(number));
        let tenant = customers[customer].tenant.clone();
        commits.spawn(async move {
            let emit = sqlx::query_scalar("select posthaste.emit($1, $2, $3::text::json)").bind(tenant).bind(TYPE);
            let id: sqlx::Result<Uuid> = emit.bind(PAYLOAD).fetch_one(&db).await;
            id.map(|id| Sent { id, customer, at: Instant::now() })
        });
    }
    let sent: sqlx::Result<Vec<Sent>> = commits.join_all().await.into_iter().collect();
    sent.map_err(|error| error.to_string())
}

/// Load at an even rate for the tenants in turn, until `time` has passed: what is due within a tick is committed together,
/// since a commit for each would cost more than what is measured. Returns how many there were.
pub async fn stream(db: &PgPool, tenants: &[String], rate: f64, time: Duration) -> Result<usize, String> {
    let emit = "select count(posthaste.emit(tenant, $2, $3::text::json)) from unnest($1::text[]) as tenant";
    let mut tick = tokio::time::interval(TICK);
    let (began, mut committed) = (Instant::now(), 0);
    loop {
        let passed = tick.tick().await.duration_since(began.into()).min(time);
        let due = (passed.as_secs_f64() * rate) as usize;
        let whom: Vec<&String> = (committed..due).map(|number| &tenants[number % tenants.len()]).collect();
        if !whom.is_empty() {
            let emit = sqlx::query(emit).bind(whom).bind(TYPE).bind(PAYLOAD).execute(db).await;
            emit.map_err(|error| error.to_string())?;
        }
        committed = due;
        if passed == time {
            return Ok(committed);
        }
    }
}

/// Commits so many events for one customer as fast as one connection can.
pub async fn burst(db: &PgPool, tenant: &str, events: usize, max_attempts: Option<i32>) -> Result<(), String> {
    let emit = "select count(posthaste.emit($1, $2, $3::text::json, null, $4)) from generate_series(1, $5)";
    let mut left = events;
    while left > 0 {
        let batch = left.min(BATCH);
        let emit = sqlx::query(emit).bind(tenant).bind(TYPE).bind(PAYLOAD).bind(max_attempts).bind(batch as i32);
        emit.execute(db).await.map_err(|error| error.to_string())?;
        left -= batch;
    }
    Ok(())
}

/// Commits so many events in one transaction, for the tenants in turn. `bytes`: at least as long is each payload.
pub async fn at_once(db: &PgPool, tenants: &[String], events: usize, bytes: usize) -> Result<(), String> {
    let insert = "insert into posthaste.outbox (tenant, event_type, payload)
                  select ($1::text[])[1 + number % $2], $3, $4::text::json from generate_series(0, $5 - 1) as number";
    let payload =
        format!(r#"{{"order": {PAYLOAD}, "note": "{}"}}"#, "x".repeat(bytes.saturating_sub(PAYLOAD.len() + 24)));
    let payload = if bytes <= PAYLOAD.len() { PAYLOAD } else { &payload };
    let insert = sqlx::query(insert).bind(tenants).bind(tenants.len() as i32).bind(TYPE).bind(payload);
    insert.bind(events as i32).execute(db).await.map_err(|error| error.to_string())?;
    Ok(())
}
