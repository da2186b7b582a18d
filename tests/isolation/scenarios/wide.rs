//! 100 000 endpoints, a fifth of them disabled with deliveries that are held: what an idle service costs, and how long a
//! delivery takes that may go again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::PgPool;
use uuid::Uuid;

use crate::isolation::cpu::{Cpu, PARTS};
use crate::isolation::endpoints::{self, New};
use crate::isolation::healthy::{Healthy, Times};
use crate::isolation::options::Options;
use crate::isolation::peaks::{Peaks, now};
use crate::isolation::receiver::{Manner, Site};
use crate::isolation::report::{Bound, Shown, Table, number};
use crate::isolation::stack::Stack;
use crate::wait_for;

const ENDPOINTS: usize = 100_000;
/// Every so many is disabled.
const DISABLED: usize = 5;
const OF_A_TENANT: usize = 10;
/// Disabled endpoints that are enabled one after another.
const PROBES: usize = 5;
const WORKERS: usize = 1;
const IDLE: Duration = Duration::from_secs(20);
const WARM_UP: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(15);
const RELEASED_SECONDS: f64 = 2.0;
const P99_MS: f64 = 20.0;
/// Of everything, in percent of a core.
const IDLE_CPU: f64 = 50.0;

/// One held delivery for each disabled endpoint, of an event of its tenant.
const HELD: &str = "with event as (
    insert into posthaste.events (id, tenant, event_type, payload, created_at, matched)
    select posthaste.uuid_v7(), tenant, 'order.created', '{\"order_id\": 17}', now(), count(*)
      from posthaste.endpoints where status = 'disabled' group by tenant
    returning id, tenant)
  insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts, next_attempt_at)
  select event.id, endpoint.id, 'held', 5, now()
    from event join posthaste.endpoints endpoint on endpoint.tenant = event.tenant where endpoint.status = 'disabled'";

/// What was found.
struct Found {
    endpoints: usize,
    held: i64,
    /// Seconds until the process was ready.
    ready: [f64; 2],
    idle: Cpu,
    memory: Peaks,
    released: Vec<f64>,
    times: Times,
}

pub async fn run(options: &Options, dir: &Path) -> Result<Shown, String> {
    let mut stack = Stack::servers(dir, "wide", &[]).await?;
    stack.listen()?;
    let count = options.scaled(ENDPOINTS);
    let probes = fill(&stack, count).await.map_err(|error| format!("the endpoints: {error}"))?;
    let (began, held) = (Instant::now(), stack.held().await?);
    stack.add_relay().await?;
    let relay = began.elapsed().as_secs_f64();
    let began = Instant::now();
    for _ in 0..options.workers(WORKERS) {
        stack.add_worker().await?;
    }
    let ready = [relay, began.elapsed().as_secs_f64()];
    let healthy = Healthy::add(&stack).await?;
    healthy.over(&stack, WARM_UP).await?;
    let (began, before) = (Instant::now(), stack.cpu());
    // Nothing happens over this time.
    tokio::time::sleep(if options.quick { WARM_UP } else { IDLE }).await;
    let idle = stack.cpu().since(before, began.elapsed().as_secs_f64());
    let memory = now(&stack).await;
    let times = healthy.over(&stack, if options.quick { WARM_UP } else { IDLE }).await?;
    eprintln!("  {count} endpoints, {held} deliveries held: {}", times.text());
    let mut released = Vec::new();
    for (endpoint, site) in &probes {
        released.push(release(&stack.db, *endpoint, site).await?);
    }
    stack.stop().await?;
    Ok(shown(&Found { endpoints: count, held, ready, idle, memory, released, times }))
}

/// All endpoints and what is held, before any process of ours runs. Returns the probes: disabled ones with an address of their own.
async fn fill(stack: &Stack, count: usize) -> Result<Vec<(Uuid, Arc<Site>)>, String> {
    let shared = stack.site(Manner::Accept(0))?;
    let is_probe = |number: usize| number.is_multiple_of(count / PROBES);
    let (mut new, mut sites) = (Vec::with_capacity(count), Vec::new());
    for number in 0..count {
        let site = if is_probe(number) { stack.site(Manner::Accept(0))? } else { shared.clone() };
        let status = if number.is_multiple_of(DISABLED) { "disabled" } else { "enabled" };
        new.push(New { tenant: format!("wide-{}", number / OF_A_TENANT), url: site.url(), status });
        if is_probe(number) {
            sites.push(site);
        }
    }
    let ids = endpoints::add(&stack.db, &new).await?;
    let days =
        "select posthaste.create_partitions(d - 1, d + 1) from (select (now() at time zone 'utc')::date) as t (d)";
    for statement in [days, HELD, "vacuum analyze"] {
        sqlx::query(statement).execute(&stack.db).await.map_err(|error| error.to_string())?;
    }
    let probes = ids.into_iter().enumerate().filter(|(number, _)| is_probe(*number)).map(|(_, id)| id);
    Ok(probes.zip(sites).collect())
}

/// Seconds from the moment at which it is enabled to the arrival of what was held.
async fn release(db: &PgPool, endpoint: Uuid, site: &Site) -> Result<f64, String> {
    let enable = "update posthaste.endpoints set status = 'enabled' where id = $1";
    sqlx::query(enable).bind(endpoint).execute(db).await.map_err(|error| error.to_string())?;
    let enabled = Instant::now();
    // Not at all is an answer too.
    let _ = wait_for("a release", PATIENCE, async || (site.requests() > 0).then_some(())).await;
    let first = site.arrivals().first().map(|arrival| arrival.at);
    Ok(first.map_or(f64::INFINITY, |at| at.saturating_duration_since(enabled).as_secs_f64()))
}

fn shown(found: &Found) -> Shown {
    let mut shown = Shown::default();
    let mut table = Table::new(&[&["CPU"], PARTS.as_slice()].concat());
    table.row("idle, % of a core", found.idle.parts().map(number));
    shown.tables.push(table);
    shown.figure("endpoints", found.endpoints as f64, "");
    shown.figure("held deliveries of disabled ones", found.held as f64, "");
    shown.figure("the relay was ready after", found.ready[0], "s");
    shown.figure("the workers were ready after", found.ready[1], "s");
    shown.figure("memory of the relay", found.memory.relays_mib, "MiB");
    shown.figure("memory of the workers", found.memory.workers_mib, "MiB");
    shown.figure("50 healthy endpoints among them: p50", found.times.quantile(0.5), "ms");
    for (number, seconds) in found.released.iter().enumerate() {
        shown.figure(format!("disabled one {}: enabled to arrival", number + 1), *seconds, "s");
    }
    let longest = found.released.iter().copied().fold(0.0, f64::max);
    shown.claim("enabled to arrival of what was held, longest, s", longest, Bound::AtMost(RELEASED_SECONDS));
    shown.claim("50 healthy endpoints among them: p99, ms", found.times.quantile(0.99), Bound::AtMost(P99_MS));
    shown.claim("CPU of everything when idle, % of a core", found.idle.all(), Bound::AtMost(IDLE_CPU));
    shown.claim("healthy events that did not arrive", found.times.missing() as f64, Bound::AtMost(0.0));
    shown
}
