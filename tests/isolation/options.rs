//! The command line of `scripts/isolation`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// Measures that one bad endpoint does not slow others, and that what it owes comes back gently. Exits with 1 when a bound is
/// broken. The ratios are within one run, so a noisy machine makes the noise larger and not the claim wrong.
#[derive(Debug, Clone, Parser)]
#[command(name = "scripts/isolation", max_term_width = 100)]
pub struct Options {
    /// What to measure; may be repeated [default: everything].
    #[arg(long = "scenario", value_name = "NAME", value_enum)]
    scenarios: Vec<Scenario>,
    /// About a tenth of the work: shows that everything works, and measures little.
    #[arg(long)]
    pub quick: bool,
    /// How often `neighbour` goes through all kinds.
    #[arg(long, value_name = "N", default_value = "2")]
    pub rounds: usize,
    /// The bad neighbours that `neighbour` goes through; may be repeated [default: all].
    #[arg(long = "kind", value_name = "KIND", value_enum)]
    kinds: Vec<Bad>,
    /// Print one JSON value at the end instead of text; the progress goes to stderr.
    #[arg(long)]
    pub json: bool,
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

    pub fn scenarios(&self) -> Vec<Scenario> {
        if self.scenarios.is_empty() { Scenario::value_variants().to_vec() } else { self.scenarios.clone() }
    }

    /// A tenth where it has to be quick.
    pub fn scaled(&self, count: usize) -> usize {
        if self.quick { count / 10 } else { count }
    }
}

impl Scenario {
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Neighbour => "neighbour",
            Scenario::Outage => "outage",
            Scenario::Herd => "herd",
            Scenario::Limited => "limited",
            Scenario::Replay => "replay",
        }
    }
}
