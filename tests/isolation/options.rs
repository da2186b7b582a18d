//! The command line of `scripts/isolation`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::frame::Output;

/// Measures that one bad endpoint does not slow others, and that what it owes comes back gently. Exits with 1 when a bound is
/// broken. The ratios are within one run, so a noisy machine makes the noise larger and not the claim wrong.
#[derive(Debug, Clone, Parser)]
#[command(name = "scripts/isolation", bin_name = "scripts/isolation", max_term_width = 100)]
pub struct Options {
    /// What to measure; may be repeated [default: everything].
    #[arg(long = "scenario", value_name = "NAME", value_enum)]
    scenarios: Vec<Scenario>,
    /// About a tenth of the work: shows that everything works, and measures little.
    #[arg(long)]
    pub quick: bool,
    /// How often `neighbour` (twice by default), `many` and `drain` (three times), `telemetry` (six times) and `history`
    /// (30 times) go through everything.
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Workers, instead of the number that a scenario has by default.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Five minutes for each kind of `many`: shows that nothing grows.
    #[arg(long, conflicts_with = "quick")]
    pub long: bool,
    /// What `many` puts beside the healthy ones; may be repeated [default: everything].
    #[arg(long = "beside", value_name = "KIND", value_enum)]
    beside: Vec<Beside>,
    /// Events of `burst`, `drain` and `telemetry`, instead of their default.
    #[arg(long, value_name = "N")]
    events: Option<usize>,
    /// Days of `history`, before today.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(i32).range(6..=400))]
    pub days: i32,
    /// Events of each day of `history`.
    #[arg(long, value_name = "N")]
    rows: Option<usize>,
    /// What messages carry of their payload in `drain`.
    #[arg(long, value_name = "KIND", value_parser = ["inline", "reference"], default_value = "inline")]
    pub payload: String,
    /// Bytes of each payload in `drain` and `telemetry`, about.
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub payload_bytes: usize,
    /// The bad neighbours that `neighbour` goes through; may be repeated [default: all].
    #[arg(long = "kind", value_name = "KIND", value_enum)]
    kinds: Vec<Bad>,
    #[command(flatten)]
    pub output: Output,
    /// Write the plots there, as SVG.
    #[arg(long, value_name = "DIR")]
    pub plots: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// 50 healthy endpoints beside one that hangs, fails, resets or drips.
    Neighbour,
    /// Very many events for an endpoint that is down, and its recovery.
    Outage,
    /// Very many deliveries that fail in the same instant: when do they come back?
    Herd,
    /// A burst to an endpoint with a rate limit.
    Limited,
    /// A large requeue beside live traffic.
    Replay,
    /// Healthy endpoints beside very many that hang, and some that are slow.
    Many,
    /// Very many events of one tenant, or of ten, at once.
    Burst,
    /// A backlog of one endpoint, until it is settled.
    Drain,
    /// Few events: how long they take, and what each costs.
    Light,
    /// The same without logs and metrics and with them, in turn: what they cost.
    Telemetry,
    /// Events that go to very many endpoints each.
    Fanout,
    /// 100 000 endpoints, a fifth of them disabled with deliveries that are held.
    Wide,
    /// An endpoint that is slow for a while, and fast again.
    Recover,
    /// One more worker joins under load.
    Join,
    /// Statements and commands on a long history and on a short one, and a day that is dropped under load.
    History,
}

/// What `many` puts beside the healthy endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Beside {
    /// As much load as that of 100 hanging ones, for endpoints that answer at once. No bound: it is what load alone costs.
    #[value(name = "prompt-100")]
    Prompt100,
    #[value(name = "hang-1")]
    Hang1,
    #[value(name = "hang-10")]
    Hang10,
    #[value(name = "hang-100")]
    Hang100,
    /// Each gets one event a minute.
    #[value(name = "hang-1000-minute")]
    Hang1000Minute,
    /// Each gets one event a second. No bound: more than there can be room for.
    #[value(name = "hang-1000-second")]
    Hang1000Second,
    /// One that answers in 40 ms, and is owed one and a half times what it can take.
    #[value(name = "slow-40")]
    Slow40,
    /// Ten that answer in 400 ms, likewise.
    #[value(name = "slow-400")]
    Slow400,
    /// 20 that hang, one of 40 ms, and five of 400 ms.
    Mixture,
    /// The same and a burst, which keeps the whole machine busy: the bound of bursts.
    #[value(name = "mixture-burst")]
    MixtureBurst,
}

/// What a bad neighbour does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Bad {
    /// Reads the request and never answers.
    Hangs,
    /// Answers 500 at once.
    Fails,
    /// Reads the request and resets the connection.
    Resets,
    /// Answers with one byte a second.
    Drips,
}

impl Options {
    pub fn kinds(&self) -> Vec<Bad> {
        if self.kinds.is_empty() { Bad::value_variants().to_vec() } else { self.kinds.clone() }
    }

    pub fn workers(&self, default: usize) -> usize {
        self.workers.unwrap_or(default)
    }

    pub fn rounds(&self, default: usize) -> usize {
        if self.quick { 1 } else { self.rounds.unwrap_or(default) }
    }

    pub fn beside(&self) -> Vec<Beside> {
        match self.beside.as_slice() {
            [] if self.quick => vec![Beside::Hang10, Beside::Hang100, Beside::Slow40, Beside::MixtureBurst],
            [] => Beside::value_variants().to_vec(),
            named => named.to_vec(),
        }
    }

    /// Of one day.
    pub fn rows(&self, default: usize) -> usize {
        self.rows.unwrap_or(self.scaled(default))
    }

    /// As many as were asked for, or the default, of which a tenth is enough where it has to be quick.
    pub fn events(&self, default: usize) -> usize {
        self.events.unwrap_or(self.scaled(default))
    }

    pub fn scenarios(&self) -> Vec<Scenario> {
        if self.scenarios.is_empty() { Scenario::value_variants().to_vec() } else { self.scenarios.clone() }
    }

    /// A tenth where it has to be quick.
    pub fn scaled(&self, count: usize) -> usize {
        if self.quick { count / 10 } else { count }
    }
}

impl Scenario {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
