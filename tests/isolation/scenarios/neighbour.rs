//! Healthy endpoints beside one bad neighbour that has as much traffic as all of them together.
//!
//! Periods with each kind of bad neighbour alternate with control periods, in which the neighbour is a fast one under the same
//! load. Every period has a new neighbour, so its circuit is closed at first and the worst phase counts.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::isolation::cpu::Cpu;
use crate::isolation::figures::{geometric_mean, noise, quantile};
use crate::isolation::latency::taken;
use crate::isolation::load::{Sent, steady};
use crate::isolation::options::{Bad, Options};
use crate::isolation::plot::{Axes, Line, Plots};
use crate::isolation::receiver::Manner;
use crate::isolation::report::{Bound, Shown, Table, number};
use crate::isolation::stack::{Customer, Stack};
use crate::wait_for;

const HEALTHY: usize = 50;
const WORKERS: usize = 2;
/// Events in a second, half of them for the neighbour.
const RATE: f64 = 300.0;
const PERIOD: Duration = Duration::from_secs(36);
const PERIOD_WHEN_QUICK: Duration = Duration::from_secs(10);
const WARM_UP: Duration = Duration::from_secs(5);
/// Between two periods, when everything of the one before is gone.
const REST: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(60);
const RATIO: f64 = 1.1;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Fast,
    Bad(Bad),
}

impl Kind {
    fn manner(self) -> Manner {
        match self {
            Kind::Fast => Manner::Accept(0),
            Kind::Bad(Bad::Hangs) => Manner::Hang,
            Kind::Bad(Bad::Fails) => Manner::Refuse(500),
            Kind::Bad(Bad::Resets) => Manner::Reset,
            Kind::Bad(Bad::Drips) => Manner::Drip,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Fast => "control (fast)",
            Kind::Bad(Bad::Hangs) => "hangs",
            Kind::Bad(Bad::Fails) => "fails (500)",
            Kind::Bad(Bad::Resets) => "resets",
            Kind::Bad(Bad::Drips) => "drips a byte a second",
        }
    }
}

struct Period {
    kind: Kind,
    /// From just after the commit to the arrival, of the healthy ones, in milliseconds.
    latencies: Vec<f64>,
    missing: usize,
    neighbour_requests: usize,
    circuit: String,
    /// While the events came.
    cpu: Cpu,
}

pub async fn run(options: &Options, dir: &Path, plots: &Plots) -> Result<Shown, String> {
    let stack = Stack::start(dir, "neighbour", &[], options.workers(WORKERS)).await?;
    stack.listen()?;
    let healthy = stack.customers("healthy", HEALTHY, Manner::Accept(0)).await?;
    let (time, rounds) = (if options.quick { PERIOD_WHEN_QUICK } else { PERIOD }, options.rounds(2));
    period(&stack, &healthy, 0, Kind::Fast, WARM_UP).await?;
    let mut periods = vec![period(&stack, &healthy, 1, Kind::Fast, time).await?];
    let kinds = options.kinds();
    for kind in (0..rounds).flat_map(|_| kinds.clone()) {
        periods.push(period(&stack, &healthy, periods.len() + 1, Kind::Bad(kind), time).await?);
        periods.push(period(&stack, &healthy, periods.len() + 1, Kind::Fast, time).await?);
    }
    let kinds: Vec<Kind> = kinds.into_iter().map(Kind::Bad).collect();
    let shown = shown(&periods, &kinds);
    draw(&periods, &kinds, plots)?;
    stack.stop().await?;
    Ok(shown)
}

async fn period(
    stack: &Stack,
    healthy: &[Customer],
    number: usize,
    kind: Kind,
    time: Duration,
) -> Result<Period, String> {
    let neighbour = stack.customer(&format!("neighbour-{number}"), kind.manner(), &[]).await?;
    let mut customers = healthy.to_vec();
    customers.push(neighbour.clone());
    // Every second event is the neighbour's.
    let choose = |event: usize| if event.is_multiple_of(2) { HEALTHY } else { event / 2 % HEALTHY };
    let (began, before) = (Instant::now(), stack.cpu());
    let sent = steady(&stack.db, Arc::new(customers), RATE, time, choose).await?;
    let cpu = stack.cpu().since(before, began.elapsed().as_secs_f64());
    let sent: Vec<Sent> = sent.into_iter().filter(|sent| sent.customer < HEALTHY).collect();
    let (taken, missing) = taken(healthy, &sent, PATIENCE).await;
    let latencies = taken.into_iter().map(|taken| taken.ms).collect();
    let circuit = stack.circuit(neighbour.endpoint).await?;
    let neighbour_requests = neighbour.site.requests();
    let period = Period { kind, latencies, missing, neighbour_requests, circuit, cpu };
    eprintln!(
        "  {:<22} p50 {:>7} p99 {:>7} max {:>8} ms; {} requests to the neighbour, circuit {}",
        kind.name(),
        number_of(&period, 0.5),
        number_of(&period, 0.99),
        number_of(&period, 1.0),
        period.neighbour_requests,
        period.circuit
    );
    clear(stack, &neighbour).await?;
    Ok(period)
}

fn number_of(period: &Period, share: f64) -> String {
    number(quantile(&period.latencies, share))
}

/// Takes the neighbour and everything that it owes out of the system, so that the next period does not pay for it.
async fn clear(stack: &Stack, neighbour: &Customer) -> Result<(), String> {
    stack.run(&["endpoint", "remove", &neighbour.endpoint.to_string(), "--yes"]).await?;
    neighbour.site.behave(Manner::Accept(0));
    stack.broker.purge_delayed().await?;
    let quiet = async || {
        let depth = stack.broker.depth().await.ok()?;
        let held = stack.held().await.ok()?;
        (depth.work + depth.delay == 0 && held == 0 && neighbour.site.open() == 0).then_some(())
    };
    wait_for("quiet after a period", PATIENCE, quiet).await?;
    // Nothing says that a database has written back what it had to.
    tokio::time::sleep(REST).await;
    Ok(())
}

fn shown(periods: &[Period], bad: &[Kind]) -> Shown {
    let mut shown = Shown::default();
    let head = ["neighbour", "p50 ms", "p99 ms", "max ms", "p50 ratio", "p99 ratio", "max ratio"];
    let mut times = Table::new(&head);
    let head = ["CPU, % of a core", "workers", "relay", "PostgreSQL", "RabbitMQ", "this program"];
    let mut work = Table::new(&head);
    let null: Vec<f64> =
        (2..periods.len().saturating_sub(2)).step_by(2).map(|at| ratio(periods, at, 2, 0.99)).collect();
    for kind in [Kind::Fast].iter().chain(bad) {
        times.rows.push(times_of(periods, *kind));
        work.rows.push(work_of(periods, *kind));
    }
    shown.tables.extend([times, work]);
    let samples: Vec<f64> = periods.iter().map(|period| period.latencies.len() as f64).collect();
    shown.figure("healthy events in a period, at least", samples.iter().copied().fold(f64::MAX, f64::min), "");
    shown.figure("control against controls, p99 ratio, lowest", quantile(&null, 0.0), "");
    shown.figure("control against controls, p99 ratio, highest", quantile(&null, 1.0), "");
    for kind in bad.iter().copied() {
        let ratios = ratios(periods, kind, 0.99);
        let chance = noise(&null, ratios.len());
        shown.figure(format!("{}: noise of the p99 ratio (two standard errors)", kind.name()), chance, "");
        let name = format!("{}: p99 of the healthy ones, bad / control", kind.name());
        shown.claim(name, geometric_mean(&ratios), Bound::AtMost(RATIO.max(chance)));
        let requests = of(periods, kind).map(|(_, period)| period.neighbour_requests).min().unwrap_or(0);
        shown.claim(format!("{}: requests that it got", kind.name()), requests as f64, Bound::AtLeast(1.0));
    }
    let missing: usize = periods.iter().map(|period| period.missing).sum();
    shown.claim("healthy events that did not arrive", missing as f64, Bound::AtMost(0.0));
    shown
}

fn of(periods: &[Period], kind: Kind) -> impl Iterator<Item = (usize, &Period)> {
    periods.iter().enumerate().filter(move |(_, period)| period.kind == kind)
}

/// A period against the two control periods that are `distance` before and after it.
fn ratio(periods: &[Period], at: usize, distance: usize, share: f64) -> f64 {
    let value = |at: usize| quantile(&periods[at].latencies, share).max(1e-3);
    value(at) / (value(at - distance) * value(at + distance)).sqrt()
}

/// Bad periods lie between two control periods.
fn ratios(periods: &[Period], kind: Kind, share: f64) -> Vec<f64> {
    of(periods, kind).map(|(at, _)| ratio(periods, at, 1, share)).collect()
}

fn median_of(periods: &[Period], kind: Kind, value: impl Fn(&Period) -> f64) -> String {
    let values: Vec<f64> = of(periods, kind).map(|(_, period)| value(period)).collect();
    number(quantile(&values, 0.5))
}

fn times_of(periods: &[Period], kind: Kind) -> Vec<String> {
    let value = |share: f64| median_of(periods, kind, |period| quantile(&period.latencies, share));
    let against = |share: f64| match kind {
        Kind::Fast => "-".to_owned(),
        kind => number(geometric_mean(&ratios(periods, kind, share))),
    };
    let mut row = vec![kind.name().to_owned()];
    row.extend([0.5, 0.99, 1.0].map(value));
    row.extend([0.5, 0.99, 1.0].map(against));
    row
}

fn work_of(periods: &[Period], kind: Kind) -> Vec<String> {
    let of: [fn(&Period) -> f64; 5] =
        [|p| p.cpu.workers, |p| p.cpu.relays, |p| p.cpu.postgres, |p| p.cpu.rabbitmq, |p| p.cpu.program];
    let shares = of.map(|of| median_of(periods, kind, of));
    std::iter::once(kind.name().to_owned()).chain(shares).collect()
}

/// How many of the healthy events took longer than so many milliseconds.
fn draw(periods: &[Period], bad: &[Kind], plots: &Plots) -> Result<(), String> {
    let line = |kind: Kind| {
        let mut all: Vec<f64> = of(periods, kind).flat_map(|(_, period)| period.latencies.iter().copied()).collect();
        all.sort_by(f64::total_cmp);
        // Evenly spaced on the logarithmic axis, down to the slowest one in ten thousand.
        let shares = (0..=80).map(|step| 10f64.powf(-f64::from(step) / 20.0));
        let points = shares.map(|share| (quantile(&all, 1.0 - share).max(1.0), share * 100.0)).collect();
        Line::new(kind.name(), points)
    };
    let lines: Vec<Line> = [Kind::Fast].into_iter().chain(bad.iter().copied()).map(line).collect();
    let axes = Axes {
        title: "Events of 50 healthy endpoints beside each kind of neighbour",
        x: "milliseconds from commit to arrival",
        y: "% that took longer",
        mark: None,
    };
    plots.log_lines("neighbour", &axes, &lines)
}
