//! How long commits of producers take.

use std::time::Duration;

use futures_util::future::join_all;

use crate::chaos::ledger::TENANT;
use crate::chaos::producers::Producer;
use crate::chaos::stack::Stack;

/// As many as may wait for each other, and enough for a percentile that two stutters of the machine do not decide.
const AT_ONCE: usize = 6;
const EACH: usize = 50;

#[derive(Debug, Clone, Copy)]
pub struct Latency {
    pub p50: Duration,
    pub p99: Duration,
}

/// Events that are committed as fast as they go, and are in the ledger like all others.
pub async fn measure(stack: &Stack) -> Latency {
    let committing = (0..AT_ONCE).map(|_| in_a_row(stack));
    let mut times: Vec<Duration> = join_all(committing).await.into_iter().flatten().collect();
    times.sort();
    Latency { p50: times[times.len() / 2], p99: times[times.len() * 99 / 100] }
}

async fn in_a_row(stack: &Stack) -> Vec<Duration> {
    let producer = Producer::new(&stack.database_url, TENANT, stack.ledger.clone(), stack.clock, stack.pause.clone());
    // The first one connects.
    producer.commit_at_once().await;
    let mut times = Vec::with_capacity(EACH);
    for _ in 0..EACH {
        times.push(producer.commit_at_once().await);
    }
    times
}
