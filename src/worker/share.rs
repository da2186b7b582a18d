//! This worker's share of what one endpoint may get: the endpoint's limits, divided by the number of workers.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::Context;
use super::endpoints::Ready;
use super::intake::Lane;
use crate::domain::circuit::State;
use crate::domain::gate;

/// The relay lets no more than a few probes go; those that meet at one worker wait for each other.
const PROBES_WAITING: usize = 3;

/// How many workers there are, as the broker counts the consumers of the queue of first attempts.
#[derive(Debug)]
pub struct Replicas(AtomicUsize);

impl Default for Replicas {
    fn default() -> Replicas {
        Replicas(AtomicUsize::new(1))
    }
}

impl Replicas {
    pub fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed).max(1)
    }

    pub fn are(&self, consumers: u32) {
        if self.0.swap(consumers as usize, Ordering::Relaxed) != consumers as usize {
            tracing::info!(workers = consumers, "workers that share the work");
        }
    }
}

/// At least one request from each worker, whatever the number of workers. A half open circuit gets one at a time.
pub fn limits(context: &Context, endpoint: &Ready, lane: &Lane) -> gate::Limits {
    let replicas = context.replicas.get();
    let in_all = endpoint.max_in_flight.unwrap_or(context.limits.max_in_flight);
    let probing = endpoint.circuit.state == State::HalfOpen;
    gate::Limits {
        max_in_flight: if probing { 1 } else { (in_all / replicas).max(1) },
        max_waiting: if probing { PROBES_WAITING } else { usize::from(lane.prefetch) / 2 },
        max_waiting_shortly: if probing { PROBES_WAITING } else { lane.prefetch.into() },
        rate: endpoint.rate_limit.map(|rate| rate / replicas as f64),
    }
}
