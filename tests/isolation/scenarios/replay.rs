//! A large requeue beside live traffic. The dead deliveries come from an endpoint that refused them for good.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::isolation::figures::quantile;
use crate::isolation::latency::taken;
use crate::isolation::load::{burst, steady};
use crate::isolation::options::Options;
use crate::isolation::plot::{Axes, Line, Plots};
use crate::isolation::receiver::Manner;
use crate::isolation::report::{Bound, Shown};
use crate::isolation::stack::{Customer, Stack};
use crate::kit::process::Process;
use crate::wait_for;

const DEAD: usize = 100_000;
const LIVE: usize = 50;
const WORKERS: usize = 2;
/// Events in a second.
const RATE: f64 = 150.0;
const PHASE: Duration = Duration::from_secs(30);
const WARM_UP: Duration = Duration::from_secs(5);
/// Deliveries in a second that `requeue` lets go.
const PACE: f64 = 500.0;
const BEFORE: &str = "before";
const AGAIN: &str = "before, again";
/// New events for the endpoint that gets the replay, as many as the command lets go.
const CONTROL: &str = "beside new events";
/// What happens is looked at this often.
const STEP: Duration = Duration::from_secs(5);
/// The two parts of the replay.
const COMMAND: &str = "while the command runs";
const DELIVERING: &str = "until all are delivered";
/// Of the receiver, for what is replayed.
const WORK_MS: u64 = 20;
/// Dead deliveries that are made at a time.
const PORTION: usize = 250;
const PATIENCE: Duration = Duration::from_secs(900);
const SETTINGS: [(&str, &str); 1] = [("retry.permanent_status_codes", "[400]")];
const RATIO: f64 = 1.1;

/// A stretch of live traffic: when each event was committed, in seconds, and how long it took, in milliseconds.
struct Phase {
    name: &'static str,
    taken: Vec<(f64, f64)>,
}

impl Phase {
    fn quantile(&self, share: f64) -> f64 {
        quantile(&self.taken.iter().map(|(_, ms)| *ms).collect::<Vec<_>>(), share)
    }
}

pub async fn run(options: &Options, dir: &Path, plots: &Plots) -> Result<Shown, String> {
    let stack = Stack::start(dir, "replay", &SETTINGS, options.workers(WORKERS)).await?;
    stack.listen()?;
    let live = Arc::new(stack.customers("live", LIVE, Manner::Accept(0)).await?);
    let dead = options.scaled(DEAD);
    let replayed = dead_deliveries(&stack, dead).await?;
    eprintln!("  {dead} deliveries are dead");
    let began = Instant::now();
    phase(&stack, &live, "warming up", began, WARM_UP).await?;
    let mut phases = vec![phase(&stack, &live, BEFORE, began, PHASE).await?];
    let control = phase(&stack, &live, CONTROL, began, PHASE);
    let (control, new) = tokio::join!(control, new_events(&stack, &replayed.tenant));
    phases.push(control?);
    let all = dead + new?;
    phases.push(phase(&stack, &live, AGAIN, began, PHASE).await?);
    let requeue_began = began.elapsed().as_secs_f64();
    let requeue = stack.command(&["requeue", "--endpoint", &replayed.endpoint.to_string(), "--yes"]);
    let requeue = Process::start(requeue, Stdio::inherit());
    let mut during = [COMMAND, DELIVERING].map(|name| Phase { name, taken: Vec::new() });
    let (mut requeue_ended, limit) = (None, Instant::now() + PATIENCE);
    while !replayed.site.has_accepted(all) {
        if Instant::now() > limit {
            return Err(format!("{} of {all} arrived in time", replayed.site.accepted().len()));
        }
        let part = &mut during[usize::from(requeue_ended.is_some())];
        part.taken.extend(phase(&stack, &live, part.name, began, STEP).await?.taken);
        if requeue_ended.is_none() && requeue.ended().is_some() {
            requeue_ended = Some(began.elapsed().as_secs_f64());
        }
    }
    let replay_ended = began.elapsed().as_secs_f64();
    let status = wait_for("the end of the requeue", PATIENCE, async || requeue.ended()).await?;
    if !status.success() {
        return Err(format!("requeue: {status}"));
    }
    phases.extend(during.into_iter().filter(|phase| !phase.taken.is_empty()));
    phases.push(phase(&stack, &live, "after", began, PHASE).await?);
    let mut shown = shown(&phases);
    shown.figure("dead deliveries requeued", dead as f64, "");
    shown.figure("the command took", requeue_ended.unwrap_or(replay_ended) - requeue_began, "s (in steps of 5 s)");
    shown.figure("until all were delivered", replay_ended - requeue_began, "s");
    draw(&phases, plots)?;
    stack.stop().await?;
    Ok(shown)
}

/// As much as the command lets go, committed as it grants them: a few together.
async fn new_events(stack: &Stack, tenant: &str) -> Result<usize, String> {
    let together = (PACE / 20.0) as usize;
    let mut tick = tokio::time::interval(Duration::from_secs_f64(together as f64 / PACE));
    let (began, mut committed) = (Instant::now(), 0);
    while began.elapsed() < PHASE {
        tick.tick().await;
        burst(&stack.db, tenant, together, None).await?;
        committed += together;
    }
    Ok(committed)
}

async fn dead_deliveries(stack: &Stack, dead: usize) -> Result<Customer, String> {
    let customer = stack.customer("replayed", Manner::Refuse(400), &[]).await?;
    let mut committed = 0;
    while committed < dead {
        burst(&stack.db, &customer.tenant, PORTION, None).await?;
        committed += PORTION;
        // Not many at once: what the workers have no room for is held, which takes its time.
        let close = async || (committed <= customer.site.requests() + PORTION / 5).then_some(());
        wait_for("dead deliveries", PATIENCE, close).await?;
    }
    let all = async || (stack.count(customer.endpoint, "dead").await.ok()? as usize >= dead).then_some(());
    wait_for("dead deliveries", PATIENCE, all).await?;
    customer.site.behave(Manner::Accept(WORK_MS));
    Ok(customer)
}

async fn phase(
    stack: &Stack,
    live: &Arc<Vec<Customer>>,
    name: &'static str,
    began: Instant,
    time: Duration,
) -> Result<Phase, String> {
    let sent = steady(&stack.db, live.clone(), RATE, time, |event| event % LIVE).await?;
    let (taken, missing) = taken(live, &sent, PATIENCE).await;
    if missing > 0 {
        return Err(format!("{missing} live events did not arrive"));
    }
    let taken = taken.iter().map(|taken| (taken.committed.duration_since(began).as_secs_f64(), taken.ms));
    let phase = Phase { name, taken: taken.collect() };
    eprintln!(
        "  {name}: p50 {:.1}, p99 {:.1}, max {:.1} ms",
        phase.quantile(0.5),
        phase.quantile(0.99),
        phase.quantile(1.0)
    );
    Ok(phase)
}

fn shown(phases: &[Phase]) -> Shown {
    let mut shown = Shown::default();
    for phase in phases {
        for (name, share) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            shown.figure(format!("live traffic, {}: {name}", phase.name), phase.quantile(share), "ms");
        }
    }
    let p99 =
        |name: &str| phases.iter().find(|phase| phase.name == name).map_or(f64::NAN, |phase| phase.quantile(0.99));
    let calm = [p99(BEFORE), p99(AGAIN), p99("after")];
    let highest = calm.into_iter().fold(0.0, f64::max);
    let chance = highest / calm.into_iter().fold(f64::MAX, f64::min);
    shown.figure("noise: the highest of the three calm p99 / the lowest", chance, "");
    let before = (p99(BEFORE) * p99(AGAIN)).sqrt();
    for name in [COMMAND, DELIVERING] {
        if phases.iter().any(|phase| phase.name == name) {
            shown.figure(format!("p99 of live traffic {name} / before"), p99(name) / before, "");
            let ratio = p99(name) / p99(CONTROL);
            shown.claim(format!("p99 of live traffic {name} / {CONTROL}"), ratio, Bound::AtMost(RATIO.max(chance)));
        }
    }
    shown
}

fn draw(phases: &[Phase], plots: &Plots) -> Result<(), String> {
    let line = |phase: &Phase| {
        let mut seconds: std::collections::BTreeMap<u64, Vec<f64>> = std::collections::BTreeMap::new();
        for (at, ms) in &phase.taken {
            seconds.entry(*at as u64).or_default().push(*ms);
        }
        let points = seconds.into_iter().map(|(second, taken)| (second as f64, quantile(&taken, 0.99)));
        Line::new(phase.name, points.collect())
    };
    let lines: Vec<Line> = phases.iter().map(line).collect();
    let axes = Axes {
        title: "Live traffic beside a requeue: p99 of each second",
        x: "seconds",
        y: "milliseconds from commit to arrival",
        mark: None,
    };
    plots.lines("replay", &axes, &lines)
}
