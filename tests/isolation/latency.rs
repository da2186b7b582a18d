//! From the commit to the arrival: both are on the clock of this process.

use std::time::{Duration, Instant};

use crate::load::Sent;
use crate::programs::wait_for;
use crate::stack::Customer;

/// One event's way.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub committed: Instant,
    pub ms: f64,
}

/// Waits until every event has been accepted; those that are not within the limit are counted as missing. What the endpoints
/// remember is forgotten then.
pub async fn taken(customers: &[Customer], sent: &[Sent], limit: Duration) -> (Vec<Taken>, usize) {
    // What is missing after that is counted.
    let _ = wait_for("events", limit, async || (arrived(customers, sent).len() == sent.len()).then_some(())).await;
    let taken = arrived(customers, sent);
    customers.iter().for_each(|customer| customer.site.arrivals().clear());
    let missing = sent.len() - taken.len();
    (taken, missing)
}

fn arrived(customers: &[Customer], sent: &[Sent]) -> Vec<Taken> {
    let accepted: Vec<_> = customers.iter().map(|customer| customer.site.accepted()).collect();
    let taken = |sent: &Sent| {
        let at = accepted[sent.customer].get(&sent.id)?;
        // An event may arrive before its commit has returned to the producer.
        let ms = at.saturating_duration_since(sent.at).as_secs_f64() * 1e3;
        Some(Taken { committed: sent.at, ms })
    };
    sent.iter().filter_map(taken).collect()
}
