//! What logs and metrics cost: the same backlog is drained without both and with them, in turn, by processes that are started
//! anew each time.

use std::path::Path;
use std::time::Duration;

use crate::isolation::figures::{geometric_mean, noise};
use crate::isolation::options::Options;
use crate::isolation::receiver::Manner;
use crate::isolation::report::{Bound, Shown, Table, number};
use crate::isolation::scenarios::drain::drain;
use crate::isolation::stack::{Customer, Stack};

const EVENTS: usize = 50_000;
const WORKERS: usize = 1;
const ROUNDS: usize = 6;
const WARM_UP: usize = 5_000;
/// Three times as often as by the shipped configuration of Prometheus, so that each drain has one.
const SCRAPE: Duration = Duration::from_secs(5);
/// With logs and metrics against without.
const MOST: f64 = 1.05;

type Changes = &'static [(&'static str, &'static str)];
const NOTHING: Changes = &[("telemetry.log_level", "error"), ("telemetry.listen", "")];
/// What a round goes through, each time beginning with another one. The third one is the first once more: what differs between
/// the two is noise.
const VARIANTS: [(&str, Changes); 4] = [
    ("nothing", NOTHING),
    ("default", &[("telemetry.log_level", "info")]),
    ("nothing, again", NOTHING),
    ("a line an attempt", &[("telemetry.log_level", "info"), ("telemetry.log_delivered", "1.0")]),
];

/// Microseconds of CPU of an event for each variant: of worker and relay, and of everything.
type Round = [(f64, f64); VARIANTS.len()];

pub async fn run(options: &Options, dir: &Path) -> Result<Shown, String> {
    let mut stack = Stack::servers(dir, "telemetry", &[]).await?;
    stack.listen()?;
    let customer = stack.customers("drained", 1, Manner::Accept(0)).await?.remove(0);
    let settings = stack.binary.settings.clone();
    let mut rounds = Vec::new();
    for number_of in 0..options.rounds(ROUNDS) {
        let mut round = Round::default();
        for place in 0..VARIANTS.len() {
            let variant = (number_of + place) % VARIANTS.len();
            let (name, changes) = VARIANTS[variant];
            let changes = changes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            stack.binary.settings = settings.iter().cloned().chain(changes).collect();
            round[variant] = measure(&mut stack, &customer, options).await?;
            eprintln!("  {name}: {:.1} us an event of worker and relay", round[variant].0);
        }
        rounds.push(round);
    }
    Ok(shown(&rounds, options.events(EVENTS)))
}

async fn measure(stack: &mut Stack, customer: &Customer, options: &Options) -> Result<(f64, f64), String> {
    stack.add_relay().await?;
    for _ in 0..options.workers(WORKERS) {
        stack.add_worker().await?;
    }
    drain(stack, customer, WARM_UP, options.payload_bytes).await?;
    let drained = scraped(stack, drain(stack, customer, options.events(EVENTS), options.payload_bytes)).await?;
    stack.stop_processes().await?;
    Ok((drained.cpu.own(), drained.cpu.all()))
}

/// Does the work, and meanwhile reads the metrics of all processes that have some, as Prometheus does.
async fn scraped<T>(stack: &Stack, work: impl Future<Output = T>) -> T {
    tokio::select! {
        done = work => done,
        never = scrape(stack) => match never {},
    }
}

async fn scrape(stack: &Stack) -> std::convert::Infallible {
    let mut tick = tokio::time::interval(SCRAPE);
    loop {
        tick.tick().await;
        for process in stack.relays.iter().chain(&stack.workers) {
            process.metrics().await;
        }
    }
}

fn shown(rounds: &[Round], events: usize) -> Shown {
    let mut shown = Shown::default();
    let mut table =
        Table::new(&[&["worker and relay, us an event"], VARIANTS.map(|(name, _)| name).as_slice()].concat());
    for (number_of, round) in rounds.iter().enumerate() {
        table.row(format!("round {}", number_of + 1), round.map(|(own, _)| number(own)));
    }
    shown.tables.push(table);
    // Within a round the base is the mean of the two without anything.
    let ratios = |of: fn(&(f64, f64)) -> f64, variant: usize| -> Vec<f64> {
        rounds.iter().map(|round| of(&round[variant]) / ((of(&round[0]) + of(&round[2])) / 2.0)).collect()
    };
    let null: Vec<f64> = rounds.iter().map(|round| round[2].0 / round[0].0).collect();
    shown.figure("events in a drain", events as f64, "");
    shown.figure("nothing again / nothing: mean of the ratios", geometric_mean(&null), "");
    shown.figure("noise: two standard errors of a mean", noise(&null, rounds.len()), "");
    let everything = geometric_mean(&ratios(|cost| cost.1, 1));
    shown.figure("CPU of everything, default / nothing", everything, "");
    let lines = geometric_mean(&ratios(|cost| cost.0, 3));
    shown.figure("CPU of worker and relay, a line an attempt / nothing", lines, "");
    let default = geometric_mean(&ratios(|cost| cost.0, 1));
    shown.claim("CPU of worker and relay, default / nothing", default, Bound::AtMost(MOST));
    shown
}
