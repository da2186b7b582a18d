//! Producers: a steady stream of single commits whose time is known, and bursts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::stack::Customer;

const PAYLOAD: &str = r#"{"order_id": 17, "item": "a box of tea", "price": "4.20", "currency": "EUR"}"#;
const TYPE: &str = "order.created";
/// Events of a burst that are committed together.
const BATCH: usize = 500;

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
    let began = tokio::time::Instant::now();
    let mut commits = JoinSet::new();
    for number in 0.. {
        let due = Duration::from_secs_f64(number as f64 / rate);
        if due >= time {
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
