//! From the outcome of an attempt to what happens next: one pure and total function.
//!
//! | outcome | decision |
//! |---|---|
//! | 2xx | delivered |
//! | 410 | dead letter (`gone`), and the endpoint is disabled |
//! | a code in `permanent_status_codes` | dead letter (`permanent_status`) |
//! | 429, 503 with `Retry-After` | retry, not before the time asked for (capped) |
//! | any other status, time-outs, DNS, TLS, refused and reset connections | retry |
//! | a fault of ours | held, no attempt spent |
//!
//! A retry of an endpoint that keeps failing is held until its time, see `Decision::in_postgres`.
//!
//! Whether a retry is still allowed is not decided here but by the row (`delivery::settle`): the row is the truth about how
//! many attempts were made and may be made.

use std::time::Duration;

use super::backoff::{DelayQueues, Policy, slot_seed};
use super::dead_reason::DeadReason;
use super::ids::DeliveryKey;
use super::outcome::Outcome;

/// How long a delivery waits after a fault of ours before it is tried again.
pub const OUR_FAULT_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    Delivered,
    Dead(DeadReason),
    /// Try again after this delay, which a delay queue covers.
    Retry {
        delay_ms: u64,
    },
    /// Try again after this delay, for which PostgreSQL keeps it.
    Park {
        delay_ms: u64,
        why: Parked,
    },
    /// A fault of ours: back to PostgreSQL without spending the attempt.
    NotSpent {
        delay_ms: u64,
    },
}

/// Why a retry waits in PostgreSQL, and not in a delay queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parked {
    /// The endpoint asked for a wait that no delay queue covers.
    RetryAfter,
    KeepsFailing,
}

impl Decision {
    /// The same, with nothing left in the broker. For an endpoint that keeps failing: its retries cost the others three
    /// messages each, and when its circuit opens they are still where they will have to wait.
    pub fn in_postgres(self) -> Decision {
        match self {
            Decision::Retry { delay_ms } => Decision::Park { delay_ms, why: Parked::KeepsFailing },
            other => other,
        }
    }
}

/// `made`: attempts made since the last requeue, this one included.
pub fn decide(
    outcome: &Outcome,
    key: DeliveryKey,
    attempt: i32,
    made: i32,
    policy: &Policy,
    queues: &DelayQueues,
) -> Decision {
    match outcome {
        Outcome::Response { status: 200..=299, .. } => Decision::Delivered,
        Outcome::Response { status: 410, .. } => Decision::Dead(DeadReason::Gone),
        Outcome::Response { status, .. } if policy.permanent_status_codes.contains(status) => {
            Decision::Dead(DeadReason::PermanentStatus)
        }
        Outcome::NotSent(_) => Decision::NotSpent { delay_ms: OUR_FAULT_PAUSE.as_millis() as u64 },
        _ => retry(policy.delay_ms(made, slot_seed(key, attempt)), asked_wait(outcome, policy), queues),
    }
}

/// `Retry-After` counts on 429 and 503 only, and never beyond the policy's cap.
fn asked_wait(outcome: &Outcome, policy: &Policy) -> Option<Duration> {
    match outcome {
        Outcome::Response { status: 429 | 503, retry_after } => {
            retry_after.map(|asked| asked.min(policy.max_retry_after))
        }
        _ => None,
    }
}

fn retry(delay_ms: u64, floor: Option<Duration>, queues: &DelayQueues) -> Decision {
    let floor_ms = floor.map_or(0, |floor| floor.as_millis() as u64);
    if floor_ms <= delay_ms {
        return Decision::Retry { delay_ms };
    }
    match queues.at_least(floor_ms) {
        // A queue that would make the customer wait much longer than asked does not cover the time.
        Some(queue) if queue <= floor_ms + floor_ms / 4 => Decision::Retry { delay_ms: queue },
        _ => Decision::Park { delay_ms: floor_ms, why: Parked::RetryAfter },
    }
}

/// 429 always, and 503 when it says when to come back, ask the whole endpoint to slow down: for the time given, if any. One
/// delivery may wait for a day; that its neighbours wait as long, the receiver can hardly mean.
pub fn asked_to_slow_down(outcome: &Outcome, policy: &Policy) -> Option<Option<Duration>> {
    match outcome {
        Outcome::Response { status: 429, .. } | Outcome::Response { status: 503, retry_after: Some(_) } => {
            Some(asked_wait(outcome, policy).map(|asked| asked.min(policy.max_pause)))
        }
        _ => None,
    }
}

/// A fault of ours that lasts must not send its deliveries round and round: the older the event, the longer the pause.
pub fn our_fault_pause_ms(delay_ms: u64, event_age_ms: u64) -> u64 {
    const LONGEST_MS: u64 = 300_000;
    delay_ms.max((event_age_ms / 8).min(LONGEST_MS))
}

/// 410 says that the endpoint is gone for good.
pub fn disables_endpoint(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Response { status: 410, .. })
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
