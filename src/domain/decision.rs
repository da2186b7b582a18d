//! From the outcome of an attempt to what happens next: one pure and total function.
//!
//! | outcome | decision |
//! |---|---|
//! | 2xx | delivered |
//! | 410 | dead letter (`gone`), and the endpoint is disabled |
//! | a code in `permanent_status_codes` | dead letter (`permanent_status`) |
//! | 429, 503 with `Retry-After` | retry, not before the time asked for (capped) |
//! | any other status, time-outs, DNS, TLS, refused and reset connections | retry |
//!
//! Which status code means what, `outcome::Response` knows. A fault of ours is no outcome: the delivery is held, and no
//! attempt is spent.
//!
//! A retry of an endpoint that keeps failing is held until its time, see `Decision::in_postgres`.
//!
//! Whether a retry is still allowed is not decided here but by the row (`delivery::settle`): the row is the truth about how
//! many attempts were made and may be made.

use std::time::Duration;

use super::backoff::{DelayQueues, Policy, slot_seed};
use super::dead_reason::DeadReason;
use super::ids::DeliveryKey;
use super::outcome::{Class, Outcome};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
    let asked = match outcome {
        Outcome::Response(response) => match response.class() {
            Class::Delivered => return Decision::Delivered,
            Class::Gone => return Decision::Dead(DeadReason::Gone),
            _ if policy.permanent_status_codes.contains(&response.status()) => {
                return Decision::Dead(DeadReason::PermanentStatus);
            }
            Class::SlowDown { retry_after } => retry_after,
            Class::Failed => None,
        },
        Outcome::Timeout(_) | Outcome::Failed(_) => None,
    };
    let floor = asked.map(|asked| asked.min(policy.max_retry_after));
    retry(policy.delay_ms(made, slot_seed(key, attempt)), floor, queues)
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

/// The endpoint asks for all its deliveries to slow down: for the time given, if any. One delivery may wait for a day; that
/// its neighbours wait as long, the receiver can hardly mean.
pub fn asked_to_slow_down(outcome: &Outcome, policy: &Policy) -> Option<Option<Duration>> {
    let Outcome::Response(response) = outcome else { return None };
    let Class::SlowDown { retry_after } = response.class() else { return None };
    Some(retry_after.map(|asked| asked.min(policy.max_retry_after).min(policy.max_pause)))
}

/// How long a delivery waits after a fault of ours. One that lasts must not send its deliveries round and round: the older
/// the event, the longer the pause.
pub fn our_fault_pause_ms(event_age_ms: u64) -> u64 {
    (event_age_ms / 8).clamp(5_000, 300_000)
}

#[cfg(test)]
#[path = "decision_tests.rs"]
mod tests;
