//! Few events, each committed by itself: how long they take, and what each costs.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::isolation::cpu::{Cpu, PARTS};
use crate::isolation::figures::quantile;
use crate::isolation::latency::taken;
use crate::isolation::load::steady;
use crate::isolation::options::Options;
use crate::isolation::plot::{Axes, Line, Plots};
use crate::isolation::receiver::Manner;
use crate::isolation::report::{Bound, Shown, Table, number};
use crate::isolation::stack::Stack;

const ENDPOINTS: usize = 50;
const WORKERS: usize = 1;
/// Events in a second.
const RATE: f64 = 200.0;
const TIME: Duration = Duration::from_secs(60);
const TIME_WHEN_QUICK: Duration = Duration::from_secs(15);
const WARM_UP: Duration = Duration::from_secs(5);
const IDLE: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(10);
const P50_MS: f64 = 4.5;
const P99_MS: f64 = 11.0;
/// CPU of an event.
const POSTGRES_MS: f64 = 0.6;
const ALL_MS: f64 = 1.5;

pub async fn run(options: &Options, dir: &Path, plots: &Plots) -> Result<Shown, String> {
    let stack = Stack::start(dir, "light", &[], options.workers(WORKERS)).await?;
    stack.listen()?;
    let customers = Arc::new(stack.customers("light", ENDPOINTS, Manner::Accept(0)).await?);
    let sent = steady(&stack.db, customers.clone(), RATE, WARM_UP, |event| event % ENDPOINTS).await?;
    taken(&customers, &sent, PATIENCE).await;
    let (began, before) = (Instant::now(), stack.cpu());
    // What everything uses when there is nothing to do.
    tokio::time::sleep(IDLE).await;
    let idle = stack.cpu().since(before, began.elapsed().as_secs_f64());
    let time = if options.quick { TIME_WHEN_QUICK } else { TIME };
    let before = stack.cpu();
    let sent = steady(&stack.db, customers.clone(), RATE, time, |event| event % ENDPOINTS).await?;
    let (taken, missing) = taken(&customers, &sent, PATIENCE).await;
    let used = (stack.cpu() - before).scaled(1e3 / sent.len() as f64);
    let ms: Vec<f64> = taken.iter().map(|taken| taken.ms).collect();
    draw(&ms, plots)?;
    stack.stop().await?;
    Ok(shown(&ms, missing, idle, used))
}

fn shown(ms: &[f64], missing: usize, idle: Cpu, used: Cpu) -> Shown {
    let mut shown = Shown::default();
    let mut table = Table::new(&[&["CPU"], PARTS.as_slice()].concat());
    table.row("idle, % of a core", idle.parts().map(number));
    table.row("ms an event", used.parts().map(number));
    shown.tables.push(table);
    shown.figure("events", ms.len() as f64, "");
    shown.figure("commit to arrival, longest", quantile(ms, 1.0), "ms");
    shown.figure("CPU of worker and relay", used.own(), "ms an event");
    shown.figure("CPU of RabbitMQ", used.rabbitmq, "ms an event");
    shown.claim("commit to arrival, p50, ms", quantile(ms, 0.5), Bound::AtMost(P50_MS));
    shown.claim("commit to arrival, p99, ms", quantile(ms, 0.99), Bound::AtMost(P99_MS));
    let postgres = used.postgres + used.producers;
    shown.figure("CPU of PostgreSQL with the producers' sessions", postgres, "ms an event");
    shown.claim("CPU of PostgreSQL without them, ms an event", used.postgres, Bound::AtMost(POSTGRES_MS));
    shown.claim("CPU of everything, ms an event", used.all(), Bound::AtMost(ALL_MS));
    shown.claim("events that did not arrive", missing as f64, Bound::AtMost(0.0));
    shown
}

fn draw(ms: &[f64], plots: &Plots) -> Result<(), String> {
    let shares = (0..=60).map(|step| 10f64.powf(-f64::from(step) / 20.0));
    let points = shares.map(|share| (quantile(ms, 1.0 - share).max(0.1), share * 100.0)).collect();
    let axes = Axes {
        title: "200 events a second, each committed by itself",
        x: "milliseconds from commit to arrival",
        y: "% that took longer",
        mark: None,
    };
    plots.log_lines("light", &axes, &[Line::new("", points)])
}
