//! A burst to an endpoint with a rate limit: kept to the limit, used to the full, and at a bounded cost for the broker.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::isolation::broker::{COUNTERS_LAG, Operations};
use crate::isolation::figures::{most_within, thinned};
use crate::isolation::load::burst;
use crate::isolation::options::Options;
use crate::isolation::plot::{Axes, Line, Plots};
use crate::isolation::receiver::Manner;
use crate::isolation::report::{Bound, Shown};
use crate::isolation::stack::{Customer, Stack};
use crate::wait_for;

const EVENTS: usize = 20_000;
/// Of the burst without a limit, for comparison.
const UNLIMITED: usize = 5_000;
const LIMIT: f64 = 500.0;
const WORKERS: usize = 2;
/// Of the receiver.
const WORK_MS: u64 = 10;
const IDLE: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(300);

const OVER: f64 = 1.05;
const MEAN: f64 = 0.9;
/// Published, delivered and acknowledged, twice.
const OPERATIONS: f64 = 6.0;

pub async fn run(options: &Options, dir: &Path, plots: &Plots) -> Result<Shown, String> {
    let stack = Stack::start(dir, "limited", &[], options.workers(WORKERS)).await?;
    stack.listen()?;
    let limit = format!("{LIMIT}");
    let customer = stack.customer("limited", Manner::Accept(WORK_MS), &["--rate-limit", &limit]).await?;
    let events = if options.quick { EVENTS / 4 } else { EVENTS };
    let held_of_prompt = held_of_a_burst_to_a_prompt_one(&stack).await?;
    let idle = operations_when_idle(&stack).await?;
    let (before, began) = (stack.broker.operations().await?, Instant::now());
    burst(&stack.db, &customer.tenant, events, None).await?;
    let committed = began.elapsed();
    eprintln!("  {events} events committed within {committed:?}");
    let all = async || customer.site.has_accepted(events).then_some(());
    wait_for("all deliveries", PATIENCE, all).await?;
    // The counters are published with a delay.
    tokio::time::sleep(COUNTERS_LAG).await;
    let after = stack.broker.operations().await?;
    let background = idle * began.elapsed().as_secs_f64();
    let mut shown = shown(&customer, plots)?;
    shown.figure("the burst was committed within", committed.as_secs_f64(), "s");
    operations(&mut shown, after - before, background, events);
    shown.figure("deliveries held for the rate", held(&stack).await - held_of_prompt, "");
    let without = format!("held of a burst of {UNLIMITED} to an endpoint without a limit");
    shown.claim(without, held_of_prompt, Bound::AtMost(0.0));
    stack.stop().await?;
    Ok(shown)
}

async fn held_of_a_burst_to_a_prompt_one(stack: &Stack) -> Result<f64, String> {
    let customer = stack.customer("unlimited", Manner::Accept(WORK_MS), &[]).await?;
    burst(&stack.db, &customer.tenant, UNLIMITED, None).await?;
    wait_for("an unlimited burst", PATIENCE, async || customer.site.has_accepted(UNLIMITED).then_some(())).await?;
    Ok(held(stack).await)
}

/// Per second: the relay's markers, and nothing else.
async fn operations_when_idle(stack: &Stack) -> Result<Operations, String> {
    let (before, began) = (stack.broker.operations().await?, Instant::now());
    // Over this time nothing happens.
    tokio::time::sleep(IDLE).await;
    let after = stack.broker.operations().await?;
    Ok((after - before) * (1.0 / began.elapsed().as_secs_f64()))
}

async fn held(stack: &Stack) -> f64 {
    let mut held = 0.0;
    for worker in &stack.workers {
        held += worker.metrics().await.map_or(0.0, |text| crate::kit::binary::sum(&text, "posthaste_held_total"));
    }
    held
}

fn shown(customer: &Customer, plots: &Plots) -> Result<Shown, String> {
    let arrivals: Vec<Instant> = customer.site.arrivals().iter().map(|arrival| arrival.at).collect();
    let first = arrivals.iter().min().copied().ok_or("nothing came")?;
    let mut times: Vec<f64> = arrivals.iter().map(|at| at.duration_since(first).as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    let last = times[times.len() - 1];
    let mut shown = Shown::default();
    let (peak, mean) = (most_within(&times, 1.0) as f64, times.len() as f64 / last);
    shown.figure("requests", times.len() as f64, "");
    shown.figure("from the first to the last", last, "s");
    shown.claim("most requests within any second / limit", peak / LIMIT, Bound::AtMost(OVER));
    shown.claim("mean requests per second / limit", mean / LIMIT, Bound::AtLeast(MEAN));
    let axes = Axes {
        title: "A burst to an endpoint that is limited to 500 requests per second",
        x: "seconds after the first request",
        y: "requests within the second before",
        mark: Some(("limit", LIMIT)),
    };
    let seconds: Vec<(f64, f64)> =
        (0..=(last * 10.0) as usize + 10).map(|tenth| second_before(&times, tenth)).collect();
    plots.lines("limited", &axes, &[Line::new("requests", thinned(&seconds, 600))])?;
    Ok(shown)
}

fn second_before(times: &[f64], tenth: usize) -> (f64, f64) {
    let at = tenth as f64 / 10.0;
    let until = |at: f64| times.partition_point(|time| *time < at);
    (at, (until(at) - until(at - 1.0)) as f64)
}

fn operations(shown: &mut Shown, raw: Operations, background: Operations, events: usize) {
    let net = raw - background;
    let each = 1.0 / events as f64;
    for (name, count) in
        [("published", net.published), ("delivered", net.delivered), ("acknowledged", net.acknowledged)]
    {
        shown.figure(format!("messages {name}, per event"), count * each, "");
    }
    shown.figure("operations of the markers, taken off", background.total(), "");
    shown.claim("broker operations per event", net.total() * each, Bound::AtMost(OPERATIONS));
}
