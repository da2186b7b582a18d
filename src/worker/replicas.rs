//! This worker's share of what one endpoint may get: the endpoint's limits, divided by the number of workers.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::queue_share::QueueShare;
use super::ready::Ready;
use crate::domain::circuit::State;
use crate::domain::gate;

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

/// At least one request from each worker, whatever the number of workers, and never more than half of the slow room: one
/// endpoint must leave space for others, whatever it is allowed. A half open circuit gets one at a time.
pub fn limits(replicas: usize, max_in_flight: usize, endpoint: &Ready, share: &QueueShare) -> gate::Limits {
    let in_all = endpoint.max_in_flight.unwrap_or(max_in_flight);
    let probing = endpoint.circuit.state == State::HalfOpen;
    let most = (share.slow_room() / 2).max(1);
    gate::Limits {
        max_in_flight: if probing { 1 } else { (in_all / replicas).clamp(1, most) },
        rate: endpoint.rate_limit.map(|rate| rate / replicas as f64),
    }
}
