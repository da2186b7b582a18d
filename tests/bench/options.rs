//! The command line of `scripts/bench`.

use clap::{Parser, ValueEnum};

use crate::frame::Output;

/// Measures how fast events are delivered and what each costs, on servers of its own, beside the floor of each part.
#[derive(Debug, Clone, Parser)]
#[command(name = "scripts/bench", bin_name = "scripts/bench", max_term_width = 100)]
pub struct Options {
    /// What to measure; may be repeated [default: everything]. The floor is always measured.
    #[arg(long = "kind", value_name = "KIND", value_enum)]
    kinds: Vec<Kind>,
    /// About a tenth of the work in one round: shows that everything works, and measures little.
    #[arg(long)]
    pub quick: bool,
    /// Rounds of each case.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Deliveries in a round; kinds with large payloads or waits have fewer.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    deliveries: u32,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Events that were committed at once before, for one endpoint and for 50.
    Burst,
    /// Events that 64 connections commit one by one while they are delivered.
    Ingest,
    /// Events at even rates: from the commit to the arrival.
    Steady,
    /// A relay without workers.
    Relay,
    /// A worker without a relay.
    Worker,
    /// Every delivery fails once, and waits in a delay queue.
    Retry,
    /// Events that go to 1, 10 and 100 endpoints each.
    Fanout,
    /// More endpoints, tenants and history.
    Growth,
    /// Payloads of 256 bytes to 1 MiB.
    Payload,
    /// More workers and more relays.
    Scale,
    /// Bytes that are written for an event: rows, indexes, write-ahead log.
    Size,
}

impl Options {
    pub fn kinds(&self) -> Vec<Kind> {
        if self.kinds.is_empty() { Kind::value_variants().to_vec() } else { self.kinds.clone() }
    }

    pub fn rounds(&self) -> usize {
        if self.quick { 1 } else { self.rounds as usize }
    }

    /// Deliveries of a round.
    pub fn deliveries(&self) -> usize {
        self.scaled(self.deliveries as usize)
    }

    /// A tenth where it has to be quick.
    pub fn scaled(&self, count: usize) -> usize {
        if self.quick { count / 10 } else { count }
    }
}

impl Kind {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}
