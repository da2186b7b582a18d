//! Events of one tenant that go to very many endpoints each, beside healthy endpoints.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::isolation::endpoints::{self, New};
use crate::isolation::healthy::{Healthy, Times};
use crate::isolation::load::at_once;
use crate::isolation::options::Options;
use crate::isolation::peaks::{Peaks, now, watched};
use crate::isolation::receiver::{Manner, Site};
use crate::isolation::report::{Bound, Shown, Table, number};
use crate::isolation::stack::Stack;
use crate::wait_for;

const WORKERS: usize = 1;
/// Endpoints, and events for all of them.
const FANS: [(usize, usize); 2] = [(1_000, 300), (10_000, 30)];
/// The endpoints share so many addresses.
const SITES: usize = 50;
const WARM_UP: Duration = Duration::from_secs(5);
const CONTROL: Duration = Duration::from_secs(15);
/// Until workers know new endpoints.
const KNOWN: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(600);
const P99_MS: f64 = 100.0;
const RELAY_MIB: f64 = 128.0;

struct Fan {
    name: String,
    deliveries: usize,
    seconds: f64,
    times: Times,
    peaks: Peaks,
}

pub async fn run(options: &Options, dir: &Path) -> Result<Shown, String> {
    let stack = Stack::start(dir, "fanout", &[], options.workers(WORKERS)).await?;
    stack.listen()?;
    let healthy = Healthy::add(&stack).await?;
    healthy.over(&stack, WARM_UP).await?;
    let control = healthy.over(&stack, if options.quick { WARM_UP } else { CONTROL }).await?;
    eprintln!("  {:<32} {}", "alone (control)", control.text());
    let before = now(&stack).await;
    let mut fans = Vec::new();
    for (endpoints, events) in FANS {
        fans.push(fan(&stack, &healthy, endpoints, options.scaled(events)).await?);
    }
    stack.stop().await?;
    Ok(shown(&control, before, &fans))
}

async fn fan(stack: &Stack, healthy: &Healthy, endpoints: usize, events: usize) -> Result<Fan, String> {
    let (tenant, deliveries) = (format!("fan-{endpoints}"), endpoints * events);
    let sites = (0..SITES).map(|_| stack.site(Manner::Accept(0))).collect::<Result<Vec<_>, _>>()?;
    sites.iter().for_each(|site| site.expect(deliveries.div_ceil(SITES)));
    let new: Vec<New> = sites.iter().cycle().take(endpoints).map(|site| New::enabled(&tenant, site.url())).collect();
    endpoints::add(&stack.db, &new).await?;
    // Nothing says that a worker has heard of an endpoint.
    tokio::time::sleep(KNOWN).await;
    let began = Instant::now();
    let working = healthy.beside(stack, sent(stack, &tenant, events, &sites, deliveries));
    let (done, peaks) = watched(stack, working).await;
    let (came, times) = done?;
    stack.settled(PATIENCE).await?;
    let name = format!("{events} events to {endpoints} endpoints");
    let seconds = (came - began).as_secs_f64();
    eprintln!("  {name:<32} {}; {:.0}/s", times.text(), deliveries as f64 / seconds);
    Ok(Fan { name, deliveries, seconds, times, peaks })
}

/// When all of them had come.
async fn sent(
    stack: &Stack,
    tenant: &str,
    events: usize,
    sites: &[Arc<Site>],
    deliveries: usize,
) -> Result<Instant, String> {
    at_once(&stack.db, &[tenant.to_owned()], events, 0).await?;
    let all = async || (sites.iter().map(|site| site.acceptances()).sum::<usize>() >= deliveries).then_some(());
    wait_for("all deliveries", PATIENCE, all).await?;
    Ok(Instant::now())
}

fn shown(control: &Times, before: Peaks, fans: &[Fan]) -> Shown {
    let mut shown = Shown::default();
    let mut table =
        Table::new(&["healthy ones", "p50 ms", "p99 ms", "max ms", "growth", "per second", "relay MiB", "workers MiB"]);
    let quantiles = |times: &Times| [0.5, 0.99, 1.0].map(|share| times.quantile(share));
    let idle = [control.growth(), 0.0, before.relays_mib, before.workers_mib];
    table.row("alone (control)", quantiles(control).into_iter().chain(idle).map(number));
    for fan in fans {
        let pace = fan.deliveries as f64 / fan.seconds;
        let cells = [fan.times.growth(), pace, fan.peaks.relays_mib, fan.peaks.workers_mib];
        table.row(&fan.name, quantiles(&fan.times).into_iter().chain(cells).map(number));
    }
    shown.tables.push(table);
    for fan in fans {
        let name = &fan.name;
        shown.claim(format!("{name}: p99 of the healthy ones, ms"), fan.times.quantile(0.99), Bound::AtMost(P99_MS));
        let grown = fan.peaks.relays_mib - before.relays_mib;
        shown.claim(format!("{name}: memory of the relay above idle, MiB"), grown, Bound::AtMost(RELAY_MIB));
        let missing = fan.times.missing() as f64;
        shown.claim(format!("{name}: healthy events that did not arrive"), missing, Bound::AtMost(0.0));
    }
    shown
}
