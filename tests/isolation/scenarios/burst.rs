//! Very many events at once, of one tenant and of ten, beside healthy endpoints.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::isolation::cpu::{Cpu, PARTS};
use crate::isolation::healthy::{Healthy, Times};
use crate::isolation::load::{at_once, stream};
use crate::isolation::options::Options;
use crate::isolation::peaks::{Peaks, watched};
use crate::isolation::plot::{Axes, Line, Plots};
use crate::isolation::receiver::Manner;
use crate::isolation::report::{Bound, Shown, Table, number};
use crate::isolation::stack::{Customer, Stack};
use crate::wait_for;

const EVENTS: usize = 1_000_000;
const TENANTS: usize = 10;
/// Of the burst alone, and of what is committed evenly: enough to compare with.
const SHARE: f64 = 0.3;
const WORKERS: usize = 1;
const WARM_UP: Duration = Duration::from_secs(5);
const CONTROL: Duration = Duration::from_secs(20);
const CONTROL_WHEN_QUICK: Duration = Duration::from_secs(6);
/// Until workers know new endpoints.
const KNOWN: Duration = Duration::from_millis(500);
const PATIENCE: Duration = Duration::from_secs(900);

const P50_MS: f64 = 50.0;
const P99_MS: f64 = 100.0;
const GROWTH: f64 = 1.5;
const THROUGHPUT: f64 = 0.95;

/// How a burst is committed.
#[derive(Debug, Clone, Copy)]
enum Commit {
    AtOnce,
    /// So many a second.
    Evenly(f64),
}

struct Burst {
    name: &'static str,
    began: Instant,
    /// Of the healthy ones, while the burst was committed and while it was worked off.
    committing: Times,
    draining: Times,
    /// Seconds after the commit (after the beginning, where it was even) at which so many had arrived.
    thousands: Vec<(f64, f64)>,
    seconds: f64,
    events: usize,
    /// Microseconds an event, while it was worked off.
    cpu: Cpu,
    peaks: Peaks,
}

pub async fn run(options: &Options, dir: &Path, plots: &Plots) -> Result<Shown, String> {
    let stack = Stack::start(dir, "burst", &[], options.workers(WORKERS)).await?;
    stack.listen()?;
    let healthy = Healthy::add(&stack).await?;
    let events = options.events(EVENTS);
    let few = (events as f64 * SHARE) as usize;
    let time = if options.quick { CONTROL_WHEN_QUICK } else { CONTROL };
    healthy.over(&stack, WARM_UP).await?;
    let before = healthy.over(&stack, time).await?;
    eprintln!("  {:<26} {}", "alone (control)", before.text());
    let alone = burst(&stack, None, "burst alone", 1, few, Commit::AtOnce).await?;
    let one = burst(&stack, Some(&healthy), "burst of one tenant", 1, events, Commit::AtOnce).await?;
    let ten = burst(&stack, Some(&healthy), "bursts of ten tenants", TENANTS, events, Commit::AtOnce).await?;
    let pace = one.events as f64 / one.seconds;
    let even = burst(&stack, Some(&healthy), "as many, evenly", 1, few, Commit::Evenly(pace)).await?;
    let after = healthy.over(&stack, time).await?;
    eprintln!("  {:<26} {}", "alone (control)", after.text());
    draw(&[&one, &ten, &even], plots)?;
    stack.stop().await?;
    Ok(shown(&before.and(&after), &alone, [&one, &ten], &even, few))
}

async fn burst(
    stack: &Stack,
    healthy: Option<&Healthy>,
    name: &'static str,
    tenants: usize,
    events: usize,
    commit: Commit,
) -> Result<Burst, String> {
    let prefix = name.replace([' ', ','], "-");
    let customers = stack.customers(&prefix, tenants, Manner::Accept(0)).await?;
    customers.iter().for_each(|customer| customer.site.expect(events.div_ceil(tenants) + 1));
    // Nothing says that a worker has heard of an endpoint.
    tokio::time::sleep(KNOWN).await;
    let (began, working) = (Instant::now(), work(stack, &customers, events, commit));
    let done = async {
        match healthy {
            Some(healthy) => healthy.beside(stack, working).await,
            None => working.await.map(|worked| (worked, Times::default())),
        }
    };
    let (done, peaks) = watched(stack, done).await;
    let ((committed, last, cpu), times) = done?;
    stack.settled(PATIENCE).await?;
    let (committing, draining) = (times.between(began, committed), times.between(committed, last));
    let thousands = thousands(&customers, committed);
    let seconds = (last - committed).as_secs_f64();
    eprintln!("  {name:<26} {}; {:.0}/s over {seconds:.1} s", draining.text(), events as f64 / seconds);
    Ok(Burst { name, began, committing, draining, thousands, seconds, events, cpu, peaks })
}

/// When the events had been committed (or began to be, evenly), when the last one had come, and the CPU between, in microseconds an event.
async fn work(
    stack: &Stack,
    customers: &[Customer],
    events: usize,
    commit: Commit,
) -> Result<(Instant, Instant, Cpu), String> {
    let tenants: Vec<String> = customers.iter().map(|customer| customer.tenant.clone()).collect();
    if matches!(commit, Commit::AtOnce) {
        at_once(&stack.db, &tenants, events, 0).await?;
    }
    let (committed, before) = (Instant::now(), stack.cpu());
    let mut wanted = events;
    if let Commit::Evenly(rate) = commit {
        wanted = stream(&stack.db, &tenants, rate, Duration::from_secs_f64(events as f64 / rate)).await?;
    }
    let come = async || {
        let come: usize = customers.iter().map(|customer| customer.site.acceptances()).sum();
        (come >= wanted).then_some(())
    };
    wait_for("a burst", PATIENCE, come).await?;
    let last = customers.iter().filter_map(|customer| customer.site.arrivals().last().map(|arrival| arrival.at)).max();
    let cpu = (stack.cpu() - before).scaled(1e6 / events as f64);
    Ok((committed, last.ok_or("nothing came")?, cpu))
}

/// When each thousandth event came, in seconds, with its number.
fn thousands(customers: &[Customer], since: Instant) -> Vec<(f64, f64)> {
    let mut times: Vec<Instant> = Vec::new();
    for customer in customers {
        times.extend(customer.site.arrivals().iter().map(|arrival| arrival.at));
    }
    times.sort();
    let second = |at: Instant| at.saturating_duration_since(since).as_secs_f64();
    times.iter().enumerate().skip(999).step_by(1_000).map(|(number, at)| (second(*at), (number + 1) as f64)).collect()
}

impl Burst {
    /// Events in a second until so many had come.
    fn pace(&self, events: usize) -> f64 {
        let reached = self.thousands.iter().rev().find(|(_, number)| *number <= events as f64);
        reached.map_or(f64::NAN, |(seconds, number)| number / seconds.max(1e-3))
    }
}

fn shown(control: &Times, alone: &Burst, bursts: [&Burst; 2], even: &Burst, few: usize) -> Shown {
    let mut shown = Shown::default();
    let mut times = Table::new(&["healthy ones", "events", "p50 ms", "p99 ms", "max ms", "growth", "missing"]);
    let mut row = |name: String, of: &Times| {
        let quantiles = [0.5, 0.99, 1.0].map(|share| of.quantile(share));
        let cells = [of.len() as f64].into_iter().chain(quantiles).chain([of.growth(), of.missing() as f64]);
        times.row(name, cells.map(number));
    };
    row("alone (control)".to_owned(), control);
    for burst in bursts {
        row(format!("{}, commits", burst.name), &burst.committing);
        row(burst.name.to_owned(), &burst.draining);
    }
    row(even.name.to_owned(), &even.draining);
    let head = ["CPU, us an event"].into_iter().chain(PARTS).chain(["events/s", "workers MiB", "relay MiB", "waiting"]);
    let mut cost = Table::new(&head.collect::<Vec<_>>());
    for burst in [alone, bursts[0], bursts[1], even] {
        let peaks = [burst.peaks.workers_mib, burst.peaks.relays_mib, burst.peaks.waiting as f64];
        let cells = burst.cpu.parts().into_iter().chain([burst.events as f64 / burst.seconds]).chain(peaks);
        cost.row(burst.name, cells.map(number));
    }
    shown.tables.extend([times, cost]);
    for burst in bursts {
        let (name, times) = (burst.name, &burst.draining);
        shown.figure(format!("{name}: events"), burst.events as f64, "");
        shown.claim(format!("{name}: p50 of the healthy ones, ms"), times.quantile(0.5), Bound::AtMost(P50_MS));
        shown.claim(format!("{name}: p99 of the healthy ones, ms"), times.quantile(0.99), Bound::AtMost(P99_MS));
        shown.claim(format!("{name}: p90, second half / first half"), times.growth(), Bound::AtMost(GROWTH));
        let missing = times.missing() + burst.committing.missing();
        shown.claim(
            format!("{name}: healthy events that did not arrive within 30 s"),
            missing as f64,
            Bound::AtMost(0.0),
        );
    }
    let (one, alone) = (bursts[0].pace(few), alone.pace(few));
    shown.figure(format!("the first {few} of the burst of one tenant"), one, "events/s");
    shown.figure("as many alone", alone, "events/s");
    shown.claim("throughput of the burst / alone", one / alone, Bound::AtLeast(THROUGHPUT));
    shown
}

fn draw(bursts: &[&Burst], plots: &Plots) -> Result<(), String> {
    let line = |burst: &&Burst| {
        let all = burst.committing.clone().and(&burst.draining);
        Line::new(burst.name, all.each_second(burst.began, 0.99))
    };
    let axes = Axes {
        title: "50 healthy endpoints beside a burst: p99 of each second",
        x: "seconds since the producer began",
        y: "milliseconds from commit to arrival",
        mark: Some(("bound", P99_MS)),
    };
    plots.lines("burst", &axes, &bursts.iter().map(line).collect::<Vec<_>>())
}
