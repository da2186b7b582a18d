//! Very many deliveries fail in the same instant. Their first retries must not come back as one wave.
//!
//! The receiver keeps every request open until all of them have come, and then answers all with 500. The workers have room
//! for all at once, and circuits are off, since an open circuit would hold what this measures.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::isolation::figures::{histogram, most_within};
use crate::isolation::load::burst;
use crate::isolation::options::Options;
use crate::isolation::plot::{Axes, Plots};
use crate::isolation::receiver::Manner;
use crate::isolation::report::{Bound, Shown};
use crate::isolation::stack::{Customer, Stack};
use crate::wait_for;

const DELIVERIES: usize = 10_000;
const CUSTOMERS: usize = 10;
const WORKERS: usize = 4;
/// What a third or two of it must have room for.
const SETTINGS: [(&str, &str); 6] = [
    ("circuit.enabled", "false"),
    ("delivery.max_in_flight", "4096"),
    ("worker.concurrency", "4096"),
    ("delivery.timeout", "60s"),
    ("retry.schedule", r#"["30s", "2m"]"#),
    ("reconcile.grace", "60s"),
];
/// The first delay, its jitter and the points within it, as they are by default.
const DELAY_SECONDS: f64 = 30.0;
const JITTER: f64 = 0.2;
const SLOTS: usize = 16;
const ALL_THERE: Duration = Duration::from_secs(50);
const ALL_BACK: Duration = Duration::from_secs(120);
const PEAK_TO_MEAN: f64 = 1.5;

pub async fn run(options: &Options, dir: &Path, plots: &Plots) -> Result<Shown, String> {
    let stack = Stack::start(dir, "herd", &SETTINGS, options.workers(WORKERS)).await?;
    stack.listen()?;
    let customers = Arc::new(stack.customers("herd", CUSTOMERS, Manner::FailTogether).await?);
    let each = options.scaled(DELIVERIES) / CUSTOMERS;
    for customer in customers.iter() {
        burst(&stack.db, &customer.tenant, each, None).await?;
    }
    let all = each * CUSTOMERS;
    let open = || customers.iter().map(|customer| customer.site.open()).sum::<usize>();
    wait_for("every request", ALL_THERE, async || (open() == all).then_some(())).await?;
    let failed = Instant::now();
    customers.iter().for_each(|customer| customer.site.behave(Manner::Accept(0)));
    eprintln!("  {all} requests are answered with 500");
    wait_for("every first retry", ALL_BACK, async || (retries(&customers, failed).len() >= all).then_some(())).await?;
    let shown = shown(&retries(&customers, failed), all, plots)?;
    stack.stop().await?;
    Ok(shown)
}

/// When the retries came, in seconds since the failure.
fn retries(customers: &[Customer], failed: Instant) -> Vec<f64> {
    let since = |at: Instant| at.duration_since(failed).as_secs_f64();
    let mut times = Vec::new();
    for customer in customers {
        times.extend(customer.site.accepted().into_values().map(since));
    }
    times.sort_by(f64::total_cmp);
    times
}

fn shown(retries: &[f64], all: usize, plots: &Plots) -> Result<Shown, String> {
    let window = DELAY_SECONDS * JITTER * 2.0;
    let width = window / SLOTS as f64;
    let (first, last) = (retries[0], retries[retries.len() - 1]);
    // One more slot on each side: the failures take a moment to be recorded.
    let from = DELAY_SECONDS * (1.0 - JITTER) - width;
    let counts = histogram(retries, from, width, SLOTS + 4);
    let mean = all as f64 / SLOTS as f64;
    let peak = counts.iter().copied().max().unwrap_or(0) as f64;
    let mut shown = Shown::default();
    shown.figure("deliveries that failed in the same instant", all as f64, "");
    shown.figure("first retry after", first, "s");
    shown.figure("last first retry after", last, "s");
    shown.figure("mean of a slot (all / 16)", mean, "retries");
    shown.figure(format!("fullest slot of {width:.2} s"), peak, "retries");
    shown.figure("most within any 0.1 s", most_within(retries, 0.1) as f64, "retries");
    shown.claim("fullest slot / mean", peak / mean, Bound::AtMost(PEAK_TO_MEAN));
    shown.claim(
        "retries within any slot's width / mean",
        most_within(retries, width) as f64 / mean,
        Bound::AtMost(PEAK_TO_MEAN),
    );
    let axes = Axes {
        title: "First retries of deliveries that failed in the same instant",
        x: "seconds after the failure",
        y: "retries in a slot",
        mark: Some(("mean", mean)),
    };
    plots.bars("herd", &axes, from, width, &counts)?;
    Ok(shown)
}
