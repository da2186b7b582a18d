//! How a relay does something again and again: a failure is logged and tried again after a pause, and ends nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::domain::reconnect;
use crate::store::StoreError;
use crate::telemetry::metrics;
use crate::telemetry::names::Duty;

/// `while pace.due().await { pace.done(step.await); }`
pub(super) struct Pace<'a> {
    duty: Duty,
    ticks: Interval,
    failures: u32,
    /// What this relay does while another one leads is not the leader's.
    leads: &'a AtomicBool,
    stop: &'a CancellationToken,
}

impl<'a> Pace<'a> {
    pub fn new(duty: Duty, tick: Duration, leads: &'a AtomicBool, stop: &'a CancellationToken) -> Pace<'a> {
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Pace { duty, ticks, failures: 0, leads, stop }
    }

    /// Waits for the next step; false: it is time to stop.
    pub async fn due(&mut self) -> bool {
        let due = async {
            match self.failures {
                0 => drop(self.ticks.tick().await),
                failed => tokio::time::sleep(reconnect::pause(failed - 1, rand::random())).await,
            }
        };
        tokio::select! {
            () = due => true,
            () = self.stop.cancelled() => false,
        }
    }

    pub fn done(&mut self, result: Result<(), StoreError>) {
        let failures = self.failures;
        match result {
            Ok(()) => {
                self.failures = 0;
                if self.leads.load(Ordering::Relaxed) {
                    metrics::duty_done(self.duty);
                }
            }
            Err(error) => {
                tracing::warn!(duty = self.duty.as_str(), %error, failures, "a duty of the relay failed; trying again");
                self.failures += 1;
            }
        }
    }
}
