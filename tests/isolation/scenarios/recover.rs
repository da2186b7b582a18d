//! An endpoint that answers in 5 ms becomes slow for a while, 5 s for an answer, and is fast again.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::isolation::figures::{histogram, most_within};
use crate::isolation::healthy::{Healthy, Times};
use crate::isolation::load::{Sent, steady};
use crate::isolation::options::Options;
use crate::isolation::peaks::{Peaks, watched};
use crate::isolation::plot::{Axes, Line, Plots};
use crate::isolation::receiver::Manner;
use crate::isolation::report::{Bound, Shown};
use crate::isolation::stack::{Customer, Stack};
use crate::wait_for;

const WORKERS: usize = 1;
/// Events in a second.
const RATE: f64 = 300.0;
const FAST: Manner = Manner::Accept(5);
const SLOW: Manner = Manner::Accept(5_000);
const PATIENCE: Duration = Duration::from_secs(120);
/// A second with so many requests is one at full speed: twice what comes.
const FULL: usize = 600;
const FULL_AFTER_SECONDS: f64 = 5.0;

/// Fast, slow, and fast again.
fn times(options: &Options) -> [Duration; 3] {
    let seconds = if options.quick { [4, 15, 15] } else { [10, 40, 30] };
    seconds.map(Duration::from_secs)
}

struct Course {
    back: Instant,
    sent: Vec<Sent>,
    /// When requests came, in seconds since the endpoint was fast again.
    requests: Vec<f64>,
    healthy: Times,
    peaks: Peaks,
}

pub async fn run(options: &Options, dir: &Path, plots: &Plots) -> Result<Shown, String> {
    let stack = Stack::start(dir, "recover", &[], options.workers(WORKERS)).await?;
    stack.listen()?;
    let healthy = Healthy::add(&stack).await?;
    let customer = stack.customers("recovers", 1, FAST).await?.remove(0);
    let course = course(&stack, &healthy, &customer, times(options)).await?;
    let shown = shown(&stack, &customer, &course).await?;
    draw(&course, plots)?;
    stack.stop().await?;
    Ok(shown)
}

async fn course(
    stack: &Stack,
    healthy: &Healthy,
    customer: &Customer,
    [fast, slow, again]: [Duration; 3],
) -> Result<Course, String> {
    let changes = async {
        // The changes are what is measured.
        tokio::time::sleep(fast).await;
        customer.site.behave(SLOW);
        // Likewise.
        tokio::time::sleep(slow).await;
        customer.site.behave(FAST);
        let back = Instant::now();
        eprintln!("  fast again; held: {}", stack.held().await?);
        Ok(back)
    };
    let own = Arc::new(vec![customer.clone()]);
    let events = steady(&stack.db, own, RATE, fast + slow + again, |_| 0);
    let load = healthy.beside(stack, async { tokio::try_join!(changes, events) });
    let (done, peaks) = watched(stack, load).await;
    let ((back, sent), healthy) = done?;
    let all = async || customer.site.has_accepted(sent.len()).then_some(());
    // What is missing is counted.
    let _ = wait_for("all events", PATIENCE, all).await;
    let since = |at: Instant| match at.checked_duration_since(back) {
        Some(after) => after.as_secs_f64(),
        None => -(back - at).as_secs_f64(),
    };
    let mut requests: Vec<f64> = customer.site.arrivals().iter().map(|arrival| since(arrival.at)).collect();
    requests.sort_by(f64::total_cmp);
    Ok(Course { back, sent, requests, healthy, peaks })
}

async fn shown(stack: &Stack, customer: &Customer, course: &Course) -> Result<Shown, String> {
    let mut shown = Shown::default();
    let after: Vec<f64> = course.requests.iter().copied().filter(|at| *at >= 0.0).collect();
    let full = after.windows(FULL).find(|window| window[FULL - 1] - window[0] < 1.0).map_or(f64::INFINITY, |w| w[0]);
    let accepted = customer.site.accepted();
    let owed = course.sent.iter().filter(|sent| sent.at < course.back);
    let came = owed.filter_map(|sent| accepted.get(&sent.id)).max();
    let gone = came.map_or(f64::NAN, |at| at.saturating_duration_since(course.back).as_secs_f64());
    shown.figure("events", course.sent.len() as f64, "");
    shown.figure("most requests within any second after that", most_within(&after, 1.0) as f64, "");
    shown.figure("what was owed had come after", gone, "s");
    shown.figure(
        "requests for an event that had been accepted before",
        (course.requests.len() - accepted.len()) as f64,
        "",
    );
    shown.figure("memory of the workers, at most", course.peaks.workers_mib, "MiB");
    for (name, share) in [("p50", 0.5), ("p99", 0.99), ("longest", 1.0)] {
        shown.figure(format!("healthy ones meanwhile: {name}"), course.healthy.quantile(share), "ms");
    }
    shown.claim("seconds until 600 requests came within one", full, Bound::AtMost(FULL_AFTER_SECONDS));
    shown.claim("events that did not arrive", (course.sent.len() - accepted.len()) as f64, Bound::AtMost(0.0));
    shown.claim("held in the end", stack.held().await? as f64, Bound::AtMost(0.0));
    shown.claim("healthy events that did not arrive within 30 s", course.healthy.missing() as f64, Bound::AtMost(0.0));
    Ok(shown)
}

fn draw(course: &Course, plots: &Plots) -> Result<(), String> {
    let first = course.requests.first().copied().unwrap_or_default().floor();
    let last = course.requests.last().copied().unwrap_or_default().ceil();
    let counts = histogram(&course.requests, first, 1.0, (last - first) as usize);
    let points = counts.iter().enumerate().map(|(second, count)| (first + second as f64, *count as f64));
    let axes = Axes {
        title: "An endpoint that takes 5 s for an answer until second 0, and 5 ms then",
        x: "seconds",
        y: "requests in a second",
        mark: Some(("what comes", RATE)),
    };
    plots.lines("recover", &axes, &[Line::new("requests", points.collect())])
}
