//! CPU time of everything that takes part.

use crate::isolation::stack::{PRODUCER, Stack};
use crate::isolation::usage::{children, family_cpu_seconds, usage};
use crate::process::Process;

/// In seconds, so far; or between two moments, per second or per event.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    pub workers: f64,
    pub relays: f64,
    /// Without the sessions of the producers.
    pub postgres: f64,
    /// The sessions of PostgreSQL that this program has: its commits, and what it asks.
    pub producers: f64,
    pub rabbitmq: f64,
    /// This program: producers and receivers.
    pub program: f64,
}

/// What the parts are called in tables, in the order of [`Cpu::parts`].
pub const PARTS: [&str; 6] = ["workers", "relay", "PostgreSQL", "producers", "RabbitMQ", "this program"];

impl Cpu {
    pub fn of(stack: &Stack) -> Cpu {
        let ours = |processes: &[Process]| processes.iter().map(|process| usage(process.id()).cpu_seconds).sum();
        let postmaster = stack.postgres.daemon.id();
        let producers = postmaster.map_or(0.0, producers);
        Cpu {
            workers: ours(&stack.workers),
            relays: ours(&stack.relays),
            postgres: postmaster.map_or(0.0, family_cpu_seconds) - producers,
            producers,
            rabbitmq: stack.rabbitmq.daemon.id().map_or(0.0, family_cpu_seconds),
            program: usage(std::process::id()).cpu_seconds,
        }
    }

    pub fn parts(self) -> [f64; 6] {
        [self.workers, self.relays, self.postgres, self.producers, self.rabbitmq, self.program]
    }

    fn of_parts([workers, relays, postgres, producers, rabbitmq, program]: [f64; 6]) -> Cpu {
        Cpu { workers, relays, postgres, producers, rabbitmq, program }
    }

    /// Without this program, and with its sessions: producers are part of what a machine has to carry.
    pub fn all(self) -> f64 {
        self.parts()[..5].iter().sum()
    }

    /// Worker and relay.
    pub fn own(self) -> f64 {
        self.workers + self.relays
    }

    /// In percent of a core.
    pub fn since(self, before: Cpu, seconds: f64) -> Cpu {
        (self - before).scaled(100.0 / seconds)
    }

    pub fn scaled(self, factor: f64) -> Cpu {
        Cpu::of_parts(self.parts().map(|part| part * factor))
    }
}

impl std::ops::Sub for Cpu {
    type Output = Cpu;

    fn sub(self, before: Cpu) -> Cpu {
        let (after, before) = (self.parts(), before.parts());
        Cpu::of_parts(std::array::from_fn(|part| after[part] - before[part]))
    }
}

/// A session's process has the role in its title.
fn producers(postmaster: u32) -> f64 {
    let title = format!("postgres: {PRODUCER} ");
    let is_producer = |process: &u32| {
        let text = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        text.starts_with(title.as_bytes())
    };
    children(postmaster).into_iter().filter(is_producer).map(|process| usage(process).cpu_seconds).sum()
}
