//! From the commit to the arrival: both are on the clock of this process.

use std::time::{Duration, Instant};

use crate::isolation::load::Sent;
use crate::isolation::stack::Customer;
use crate::wait_for;

/// One event's way.
#[derive(Debug, Clone, Copy)]
pub struct Taken {
    pub committed: Instant,
    /// Infinite for one that did not arrive.
    pub ms: f64,
}

/// Waits until every event has been accepted; those that are not within the limit are counted as missing. What the endpoints
/// remember is forgotten then.
pub async fn taken(customers: &[Customer], sent: &[Sent], limit: Duration) -> (Vec<Taken>, usize) {
    let mut taken = all(customers, sent, limit).await;
    taken.retain(|taken| taken.ms.is_finite());
    let missing = sent.len() - taken.len();
    (taken, missing)
}

/// The same, with those that are missing.
pub async fn all(customers: &[Customer], sent: &[Sent], limit: Duration) -> Vec<Taken> {
    let came = async || arrived(customers, sent).iter().all(|taken| taken.ms.is_finite()).then_some(());
    // What is missing after that is part of the answer.
    let _ = wait_for("events", limit, came).await;
    let taken = arrived(customers, sent);
    customers.iter().for_each(|customer| customer.site.arrivals().clear());
    taken
}

fn arrived(customers: &[Customer], sent: &[Sent]) -> Vec<Taken> {
    let accepted: Vec<_> = customers.iter().map(|customer| customer.site.accepted()).collect();
    let taken = |sent: &Sent| {
        // An event may arrive before its commit has returned to the producer.
        let ms =
            accepted[sent.customer].get(&sent.id).map(|at| at.saturating_duration_since(sent.at).as_secs_f64() * 1e3);
        Taken { committed: sent.at, ms: ms.unwrap_or(f64::INFINITY) }
    };
    sent.iter().map(taken).collect()
}
