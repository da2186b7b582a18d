//! Very many events for an endpoint that refuses connections, and its recovery.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Mutex;

use crate::isolation::broker::Depth;
use crate::isolation::figures::{most_within, quantile, thinned};
use crate::isolation::load::burst;
use crate::isolation::options::Options;
use crate::isolation::plot::{Axes, Line, Plots};
use crate::isolation::receiver::Manner;
use crate::isolation::report::{Bound, Shown};
use crate::isolation::stack::{Customer, Stack};
use crate::isolation::usage::{Usage, usage};
use crate::wait_for;

const EVENTS: usize = 100_000;
/// Committed in a second, in portions.
const RATE: usize = 1_000;
const PORTION: usize = 200;
const WORKERS: usize = 2;
/// Of the receiver, once it is back.
const WORK_MS: u64 = 20;
const MAX_IN_FLIGHT: usize = 32;
const SETTINGS: [(&str, &str); 6] = [
    ("retry.schedule", r#"["5s", "10s", "20s", "1h"]"#),
    ("circuit.min_duration", "5s"),
    ("circuit.cooldown", "5s"),
    ("circuit.max_cooldown", "10s"),
    ("relay.release_rate", "1000"),
    ("delivery.max_in_flight", "32"),
];
/// After this, all that failed before the circuit opened has come back once and is held.
const SETTLED: Duration = Duration::from_secs(15);
const IDLE: Duration = Duration::from_secs(20);
const SAMPLE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(600);

const PEAK_TO_MEAN: f64 = 2.0;
/// Messages in the broker, while the rest of the backlog piles up.
const DEEPEST_SHARE: f64 = 0.01;
const GROWTH_MIB: f64 = 32.0;
/// Of one core, above what was used before.
const IDLE_CPU: f64 = 0.1;
const MIB: f64 = 1024.0 * 1024.0;

/// What everything used and held at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    at: f64,
    held: i64,
    depth: Depth,
    workers: Usage,
    /// Relay, workers, PostgreSQL and RabbitMQ.
    cpu_seconds: f64,
}

#[derive(Clone, Copy)]
struct Moments {
    load_began: f64,
    circuit_opened: f64,
    all_committed: f64,
    back: f64,
}

pub async fn run(options: &Options, dir: &Path, plots: &Plots) -> Result<Shown, String> {
    let stack = Arc::new(Stack::start(dir, "outage", &SETTINGS, options.workers(WORKERS)).await?);
    let events = options.scaled(EVENTS);
    let customer = stack.customer("outage", Manner::Accept(WORK_MS), &[]).await?;
    let began = Instant::now();
    let samples = Arc::new(Mutex::new(Vec::new()));
    let sampling = tokio::spawn(sample(stack.clone(), began, samples.clone()));
    let outage = through(&stack, &customer, events, began).await;
    sampling.abort();
    let _ = sampling.await;
    let moments = outage?;
    let samples = samples.lock().await;
    let mut shown = Shown::default();
    show_backlog(&mut shown, &samples, moments, events);
    show_release(&mut shown, &customer, events, plots)?;
    let delivered = stack.count(customer.endpoint, "delivered").await?;
    shown.claim("events not delivered in the end", events as f64 - delivered as f64, Bound::AtMost(0.0));
    draw(&samples, plots)?;
    Arc::into_inner(stack).ok_or("somebody still looks at the stack")?.stop().await?;
    Ok(shown)
}

/// The outage from beginning to end.
async fn through(stack: &Stack, customer: &Customer, events: usize, began: Instant) -> Result<Moments, String> {
    let now = || began.elapsed().as_secs_f64();
    // What everything uses when there is nothing to do.
    tokio::time::sleep(IDLE).await;
    let load_began = now();
    let mut circuit_opened = None;
    let mut tick = tokio::time::interval(SAMPLE * PORTION as u32 / RATE as u32);
    for _ in 0..events / PORTION {
        tick.tick().await;
        burst(&stack.db, &customer.tenant, PORTION, None).await?;
        if circuit_opened.is_none() && stack.circuit(customer.endpoint).await? != "closed" {
            circuit_opened = Some(now());
            eprintln!("  the circuit opened {:.1} s after the first event", now() - load_began);
        }
    }
    let circuit_opened = circuit_opened.ok_or("the circuit did not open while events came")?;
    stack.relayed(PATIENCE).await?;
    let all_committed = now();
    eprintln!("  {events} events committed and moved; held: {}", stack.held().await?);
    // What everything uses with the backlog there.
    tokio::time::sleep(SETTLED + IDLE).await;
    let back = now();
    stack.listen()?;
    eprintln!("  the endpoint is back; held: {}", stack.held().await?);
    let all = async || customer.site.has_accepted(events).then_some(());
    wait_for("all deliveries", PATIENCE, all).await?;
    let recorded = async || (stack.count(customer.endpoint, "delivered").await.ok()? as usize >= events).then_some(());
    wait_for("all records", PATIENCE, recorded).await?;
    // What everything uses when all is over.
    tokio::time::sleep(IDLE).await;
    Ok(Moments { load_began, circuit_opened, all_committed, back })
}

async fn sample(stack: Arc<Stack>, began: Instant, samples: Arc<Mutex<Vec<Sample>>>) {
    let mut tick = tokio::time::interval(SAMPLE);
    loop {
        tick.tick().await;
        let (Ok(held), Ok(depth)) = (stack.held().await, stack.broker.depth().await) else { continue };
        let workers = stack.workers.iter().map(|worker| usage(worker.id())).fold(Usage::default(), |a, b| a + b);
        let cpu_seconds = stack.cpu().all();
        samples.lock().await.push(Sample { at: began.elapsed().as_secs_f64(), held, depth, workers, cpu_seconds });
    }
}

fn between(samples: &[Sample], from: f64, until: f64) -> Vec<Sample> {
    samples.iter().filter(|sample| (from..until).contains(&sample.at)).copied().collect()
}

/// Shares of one core between samples.
fn cpu(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> Vec<(f64, f64)> {
    let share = |pair: &[Sample]| (pair[1].at, (of(&pair[1]) - of(&pair[0])) / (pair[1].at - pair[0].at));
    samples.windows(2).map(share).collect()
}

fn median_cpu(samples: &[Sample], of: impl Fn(&Sample) -> f64) -> f64 {
    quantile(&cpu(samples, of).into_iter().map(|(_, share)| share).collect::<Vec<_>>(), 0.5)
}

fn most<T: Into<f64>>(samples: &[Sample], of: impl Fn(&Sample) -> T) -> f64 {
    samples.iter().map(|sample| of(sample).into()).fold(0.0, f64::max)
}

fn show_backlog(shown: &mut Shown, samples: &[Sample], moments: Moments, events: usize) {
    let in_broker = |sample: &Sample| (sample.depth.work + sample.depth.delay) as f64;
    let memory = |sample: &Sample| sample.workers.memory_bytes / MIB;
    let idle = between(samples, 0.0, moments.load_began);
    let piling = between(samples, moments.circuit_opened + SETTLED.as_secs_f64(), moments.back);
    let waiting = between(samples, moments.all_committed + SETTLED.as_secs_f64(), moments.back);
    let whole = between(samples, moments.load_began, moments.back);
    shown.figure("events for the dead endpoint", events as f64, "");
    shown.figure("the circuit opened after", moments.circuit_opened - moments.load_began, "s");
    shown.figure("held in PostgreSQL at most", most(&whole, |sample| sample.held as f64), "deliveries");
    shown.figure(
        "in the broker at most, before the circuit opened and just after",
        most(&whole, in_broker),
        "messages",
    );
    shown.figure("memory of both workers, idle before", most(&idle, memory), "MiB");
    shown.figure("memory of both workers, at most until the endpoint is back", most(&whole, memory), "MiB");
    let (before, with) =
        (median_cpu(&idle, |s| s.workers.cpu_seconds), median_cpu(&waiting, |s| s.workers.cpu_seconds));
    shown.figure("CPU of both workers, idle before", before * 100.0, "% of a core");
    shown.figure("CPU of both workers, with the backlog", with * 100.0, "% of a core");
    let (all_before, all_with) = (median_cpu(&idle, |s| s.cpu_seconds), median_cpu(&waiting, |s| s.cpu_seconds));
    shown.figure("CPU of everything, idle before", all_before * 100.0, "% of a core");
    shown.figure("CPU of everything, with the backlog", all_with * 100.0, "% of a core");
    let deepest = most(&piling, in_broker);
    shown.claim(
        "messages in the broker while the backlog piles up / events",
        deepest / events as f64,
        Bound::AtMost(DEEPEST_SHARE),
    );
    shown.claim(
        "growth of both workers' memory until then, MiB",
        most(&piling, memory) - most(&idle, memory),
        Bound::AtMost(GROWTH_MIB),
    );
    shown.claim(
        "CPU of everything with the backlog, above idle, cores",
        all_with - all_before,
        Bound::AtMost(IDLE_CPU),
    );
}

/// The release is from the first request that was accepted, which ends the probing, to the last one.
fn show_release(shown: &mut Shown, customer: &Customer, events: usize, plots: &Plots) -> Result<(), String> {
    let accepted: Vec<Instant> = customer.site.arrivals().iter().filter(|a| a.accepted).map(|a| a.at).collect();
    let first = accepted.iter().min().copied().ok_or("nothing came")?;
    let mut times: Vec<f64> = accepted.iter().map(|at| at.duration_since(first).as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    let last = times[times.len() - 1];
    let (peak, mean) = (most_within(&times, 1.0) as f64, times.len() as f64 / last);
    shown.figure("the release took", last, "s");
    shown.figure("mean of the release", mean, "requests/s");
    shown.figure("most within any second", peak, "requests");
    shown.figure(
        "requests for an event that had been accepted before",
        (times.len() - customer.site.accepted().len()) as f64,
        "",
    );
    shown.claim("peak / mean of the release", peak / mean, Bound::AtMost(PEAK_TO_MEAN));
    shown.claim(
        "most requests open at once",
        customer.site.in_flight.take_most() as f64,
        Bound::AtMost(MAX_IN_FLIGHT as f64),
    );
    shown.claim(
        "events that never came",
        (events - customer.site.accepted().len().min(events)) as f64,
        Bound::AtMost(0.0),
    );
    let counts = crate::isolation::figures::histogram(&times, 0.0, 1.0, last.ceil() as usize);
    let each_second: Vec<(f64, f64)> =
        counts.iter().enumerate().map(|(second, n)| (second as f64, *n as f64)).collect();
    let axes = Axes {
        title: "The release after an outage",
        x: "seconds after the first accepted request",
        y: "requests in a second",
        mark: Some(("mean", mean)),
    };
    plots.lines("outage-release", &axes, &[Line::new("requests", thinned(&each_second, 400))])
}

fn draw(samples: &[Sample], plots: &Plots) -> Result<(), String> {
    let line = |name: &str, of: &dyn Fn(&Sample) -> f64| {
        let points: Vec<(f64, f64)> = samples.iter().map(|sample| (sample.at, of(sample))).collect();
        Line::new(name, thinned(&points, 300))
    };
    let backlog = [
        line("held in PostgreSQL", &|sample| sample.held as f64),
        line("in the work queues", &|sample| sample.depth.work as f64),
        line("in the delay queues", &|sample| sample.depth.delay as f64),
    ];
    let axes = Axes { title: "An outage: where the backlog is", x: "seconds", y: "deliveries", mark: None };
    plots.lines("outage-backlog", &axes, &backlog)?;
    let everything = cpu(samples, |sample| sample.cpu_seconds * 100.0);
    let workers = cpu(samples, |sample| sample.workers.cpu_seconds * 100.0);
    let processes = [
        line("memory of both workers, MiB", &|sample| sample.workers.memory_bytes / MIB),
        Line::new("CPU of both workers, % of a core", thinned(&workers, 300)),
        Line::new("CPU of everything, % of a core", thinned(&everything, 300)),
    ];
    let axes = Axes { title: "An outage: what it costs", x: "seconds", y: "MiB, % of a core", mark: None };
    plots.lines("outage-cost", &axes, &processes)
}
