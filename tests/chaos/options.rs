//! The command line of `scripts/chaos`.

use clap::{Parser, ValueEnum};

use crate::chaos::kind::Kind;
use crate::frame::Output;

/// Events per second, unless the time of the load is given.
const RATE: f64 = 400.0;
/// Fewer: of an upgrade some are tried many times, and a cluster or a standby on this one machine are more servers.
const SLOW_RATE: f64 = 100.0;
const KILLS_OF_A_CHAIN: usize = 20;

/// Kills, cuts, freezes and wipes whatever Posthaste stands on while events are committed, then audits what became of every
/// one of them. Exits with 1 when an event was lost, or when one was delivered that was never committed.
#[derive(Debug, Clone, Parser)]
#[command(name = "scripts/chaos", bin_name = "scripts/chaos", max_term_width = 100)]
pub struct Options {
    /// What happens during the run.
    #[arg(long, value_enum, default_value = "faults")]
    pub scenario: Scenario,
    /// Events to commit, at least.
    #[arg(long, value_name = "N")]
    events: Option<u64>,
    /// Faults to cause; where there are at least as many as kinds, every kind at least once [default: each kind twice,
    /// or once with --quick].
    #[arg(long, value_name = "N")]
    faults: Option<usize>,
    /// Decides the schedule of the faults [default: a random one, which is printed].
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// The time over which the events are committed and the faults spread, at least.
    #[arg(long, value_name = "M")]
    minutes: Option<f64>,
    /// A few thousand events and every kind of fault once, two at a time where they do not exclude each other. Of a soak, 60 000
    /// events.
    #[arg(long)]
    pub quick: bool,
    /// Rounds of one fault, two, and so on up to this many, in turn, where they do not exclude each other [default: one round in
    /// four has two].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=8))]
    at_once: Option<u8>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// A seeded schedule of faults under load.
    Faults,
    /// Every relay and worker is restarted in turn with SIGTERM, again and again, under load.
    Rolling,
    /// The broker is wiped while it holds many unfinished deliveries, some due and some delayed.
    Wipe,
    /// Another session holds a snapshot for the whole run.
    Snapshot,
    /// A day of work in some minutes: nothing that a relay and a worker hold may grow.
    Soak,
    /// A long queue and slow receivers: nothing may be taken for lost.
    Backlog,
    /// Everything that delivers is killed in turn, and a customer's service with an inbox too: each event has one effect.
    Chain,
    /// The broker is a cluster of three nodes: they are killed, cut off, frozen and replaced in turn, under load.
    Cluster,
    /// The primary of PostgreSQL is killed and its standby takes over, three times, with less and less that a commit waits for.
    Failover,
    /// From the release before to this one and back, process by process, under load; run by scripts/upgrade.
    Upgrade,
}

impl Options {
    pub fn events(&self) -> u64 {
        let usual = match (self.scenario, self.quick) {
            (Scenario::Faults, true) => 3_000,
            (Scenario::Faults, false) => 20_000,
            (Scenario::Rolling | Scenario::Upgrade | Scenario::Chain | Scenario::Cluster | Scenario::Failover, _) => {
                10_000
            }
            (Scenario::Wipe, _) => 25_000,
            (Scenario::Snapshot | Scenario::Backlog, _) => 200_000,
            (Scenario::Soak, true) => 60_000,
            (Scenario::Soak, false) => 2_000_000,
        };
        self.events.unwrap_or(usual)
    }

    pub fn faults(&self) -> usize {
        let usual = match (self.scenario, self.quick) {
            (Scenario::Chain, _) => KILLS_OF_A_CHAIN,
            (_, true) => Kind::ALL.len(),
            (_, false) => 2 * Kind::ALL.len(),
        };
        self.faults.unwrap_or(usual)
    }

    pub fn at_once(&self) -> Option<usize> {
        self.at_once.map(usize::from)
    }

    pub fn seed(&self) -> u64 {
        // Short enough to be typed again.
        self.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()))
    }

    /// Events per second.
    pub fn rate(&self) -> f64 {
        self.events() as f64 / self.seconds()
    }

    /// Seconds that the load shall last.
    pub fn seconds(&self) -> f64 {
        let of_fault = match self.at_once {
            // As much time for a round as the usual rounds have, which are of five faults in four.
            Some(most) => 7.5 / ((1.0 + f64::from(most)) / 2.0),
            None if self.quick => 4.0,
            None => 6.0,
        };
        let for_faults = match self.scenario {
            Scenario::Faults | Scenario::Chain => self.faults() as f64 * of_fault,
            _ => 0.0,
        };
        let is_slow = matches!(self.scenario, Scenario::Upgrade | Scenario::Cluster | Scenario::Failover);
        let rate = if is_slow { SLOW_RATE } else { RATE };
        self.minutes.map_or_else(|| for_faults.max(self.events() as f64 / rate), |minutes| minutes * 60.0)
    }
}
