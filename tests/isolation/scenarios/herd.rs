//! Very many deliveries fail. Their first retries must not come back as one wave.
//!
//! Each fails at its first request. Its retry is timed from that failure, so the retries lie beside each other as if all had
//! failed in the same instant, however long the first requests take. Circuits are off, since an open circuit would hold what this
//! measures.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use uuid::Uuid;

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
const SETTINGS: [(&str, &str); 2] = [("circuit.enabled", "false"), ("retry.schedule", r#"["30s", "2m"]"#)];
/// The first delay, its jitter and the points within it, as they are by default.
const DELAY_SECONDS: f64 = 30.0;
const JITTER: f64 = 0.2;
const SLOTS: usize = 16;
const PATIENCE: Duration = Duration::from_secs(180);
const PEAK_TO_MEAN: f64 = 1.5;

pub async fn run(options: &Options, dir: &Path, plots: &Plots) -> Result<Shown, String> {
    let stack = Stack::start(dir, "herd", &SETTINGS, options.workers(WORKERS)).await?;
    stack.listen()?;
    let customers = stack.customers("herd", CUSTOMERS, Manner::FailOnce).await?;
    let each = options.scaled(DELIVERIES) / CUSTOMERS;
    for customer in &customers {
        burst(&stack.db, &customer.tenant, each, None).await?;
    }
    let all = each * CUSTOMERS;
    let accepted = || customers.iter().map(|customer| customer.site.acceptances()).sum::<usize>();
    wait_for("every first retry", PATIENCE, async || (accepted() >= all).then_some(())).await?;
    let shown = shown(&customers, all, plots)?;
    stack.stop().await?;
    Ok(shown)
}

/// When the first request for each event came.
fn failures(customers: &[Customer]) -> HashMap<Uuid, Instant> {
    let mut first = HashMap::new();
    for customer in customers {
        for arrival in customer.site.arrivals().iter().filter(|arrival| !arrival.accepted) {
            first.entry(arrival.id).or_insert(arrival.at);
        }
    }
    first
}

/// When the retries came, in seconds since the failure of each.
fn retries(customers: &[Customer], failures: &HashMap<Uuid, Instant>) -> Vec<f64> {
    let accepted = customers.iter().flat_map(|customer| customer.site.accepted());
    let since = |(id, at): (Uuid, Instant)| Some(at.duration_since(*failures.get(&id)?).as_secs_f64());
    let mut times: Vec<f64> = accepted.filter_map(since).collect();
    times.sort_by(f64::total_cmp);
    times
}

fn shown(customers: &[Customer], all: usize, plots: &Plots) -> Result<Shown, String> {
    let failures = failures(customers);
    let retries = &*retries(customers, &failures);
    let (Some(began), Some(ended)) = (failures.values().min(), failures.values().max()) else {
        return Err("nothing has failed".to_owned());
    };
    let window = DELAY_SECONDS * JITTER * 2.0;
    let width = window / SLOTS as f64;
    let (first, last) = (retries[0], retries[retries.len() - 1]);
    // One more slot on each side: a failure takes a moment to be recorded.
    let from = DELAY_SECONDS * (1.0 - JITTER) - width;
    let counts = histogram(retries, from, width, SLOTS + 4);
    let mean = all as f64 / SLOTS as f64;
    let peak = counts.iter().copied().max().unwrap_or(0) as f64;
    let mut shown = Shown::default();
    shown.figure("deliveries that failed once", all as f64, "");
    shown.figure("of which no failure was seen", (all - retries.len()) as f64, "");
    shown.figure("from the first failure to the last one", ended.duration_since(*began).as_secs_f64(), "s");
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
        title: "First retries of deliveries that failed",
        x: "seconds after its failure",
        y: "retries in a slot",
        mark: Some(("mean", mean)),
    };
    plots.bars("herd", &axes, from, width, &counts)?;
    Ok(shown)
}
