//! The same burst with more of everything around it: tenants, endpoints that do not match, history.

use std::path::Path;

use sqlx::PgPool;

use crate::bench::options::Options;
use crate::bench::row::Row;
use crate::bench::work::{KIB, WARM_UP, Work, drained, tenants};
use crate::isolation::stack::Stack;

const TENANTS: [usize; 4] = [1, 100, 10_000, 100_000];
/// Endpoints of the tenant that want other events.
const OTHERS: [usize; 2] = [100, 1_000];
/// Addresses of all endpoints together.
const ADDRESSES: usize = 50;
const HISTORY: usize = 10_000_000;

/// Endpoints that get nothing.
const ADD_OTHERS: &str = "insert into posthaste.endpoints (id, tenant, url, event_types)
    select posthaste.uuid_v7(), $1, 'http://127.0.0.1:9/', array['other.' || number]
      from generate_series($2, $3 - 1) as number";
/// Delivered today, as everything before was.
const ADD_HISTORY: &str = "with e as (
    insert into posthaste.events (id, tenant, event_type, payload, created_at, matched)
    select posthaste.uuid_v7(), 'history', 'order.created', $1::text::json, now(), 1 from generate_series(1, $2)
    returning id), d as (
    insert into posthaste.deliveries (event_id, endpoint_id, status, attempts, max_attempts, next_attempt_at, last_status_code)
    select id, '01a203e0-23fc-705e-8d5e-f952401a4268', 'delivered', 1, 5, null, 200 from e returning event_id, endpoint_id)
  insert into posthaste.attempts (event_id, endpoint_id, attempt, outcome, status_code, duration_ms, started_at, worker)
  select event_id, endpoint_id, 1, 'delivered', 200, 5, now(), 'history' from d";
const TOGETHER: usize = 50_000;

pub async fn run(options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    let stack = Stack::start(dir, "growth", &[], 1).await?;
    stack.listen()?;
    let mut rows = Vec::new();
    for count in TENANTS.into_iter().filter(|count| !options.quick || *count <= 10_000) {
        rows.push(case(options, &stack, &format!("tenants-{count}"), count, format!("tenants: {count}")).await?);
    }
    let (mut before, tenant) = (0, "others-1");
    for count in OTHERS {
        let add = sqlx::query(ADD_OTHERS).bind(tenant).bind(before).bind(count as i32);
        add.execute(&stack.db).await.map_err(|error| error.to_string())?;
        before = count as i32;
        let name = format!("endpoints that do not match: {count}");
        rows.push(case(options, &stack, "others", 1, name).await?);
    }
    let history = options.scaled(HISTORY) / if options.quick { 10 } else { 1 };
    fill(&stack.db, history).await.map_err(|error| error.to_string())?;
    rows.push(case(options, &stack, "history", 1, format!("events of today before: {history}")).await?);
    stack.stop().await?;
    Ok(rows)
}

async fn case(options: &Options, stack: &Stack, name: &str, count: usize, case: String) -> Result<Row, String> {
    let (tenants, sites) = tenants(stack, name, count, ADDRESSES).await?;
    // One endpoint of each tenant: an earlier case may have added one already.
    let each = 1;
    let work = |events| Work { tenants: &tenants, sites: &sites, events, each, bytes: KIB };
    drained(stack, &work(WARM_UP)).await?;
    let mut rounds = Vec::new();
    for _ in 0..options.rounds() {
        rounds.push(drained(stack, &work(options.deliveries())).await?);
    }
    let forget = sqlx::query("delete from posthaste.endpoints where tenant = any ($1) and event_types is null");
    forget.bind(&tenants).execute(&stack.db).await.map_err(|error| error.to_string())?;
    Ok(Row::of("growth", case, &rounds))
}

async fn fill(db: &PgPool, events: usize) -> sqlx::Result<()> {
    let payload = crate::bench::work::payload(KIB);
    for from in (0..events).step_by(TOGETHER) {
        let count = TOGETHER.min(events - from) as i32;
        sqlx::query(ADD_HISTORY).bind(&payload).bind(count).execute(db).await?;
    }
    sqlx::query("vacuum analyze posthaste.deliveries").execute(db).await?;
    Ok(())
}
