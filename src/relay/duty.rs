//! How a relay does something again and again: a failure is logged and tried again after a pause, and ends nothing else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::reconnect::Backoff;
use crate::store::StoreError;
use crate::telemetry::metrics;
use crate::telemetry::names::Duty;

/// `while ticker.due().await { ticker.done(step.await); }`
pub(super) struct Ticker<'a> {
    duty: Duty,
    ticks: Interval,
    backoff: Backoff,
    /// After a failure; otherwise the next tick counts.
    pause: Option<Duration>,
    /// What this relay does while another one leads is not the leader's.
    leads: &'a AtomicBool,
    stop: &'a CancellationToken,
}

impl<'a> Ticker<'a> {
    pub fn new(duty: Duty, tick: Duration, leads: &'a AtomicBool, stop: &'a CancellationToken) -> Ticker<'a> {
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ticker { duty, ticks, backoff: Backoff::default(), pause: None, leads, stop }
    }

    /// Waits for the next step; false: it is time to stop.
    pub async fn due(&mut self) -> bool {
        let due = async {
            match self.pause {
                None => drop(self.ticks.tick().await),
                Some(pause) => tokio::time::sleep(pause).await,
            }
        };
        tokio::select! {
            () = due => true,
            () = self.stop.cancelled() => false,
        }
    }

    pub fn done(&mut self, result: Result<(), StoreError>) {
        let failures = self.backoff.failures();
        match result {
            Ok(()) => {
                self.backoff.reset();
                self.pause = None;
                if self.leads.load(Ordering::Relaxed) {
                    metrics::duty_done(self.duty);
                }
            }
            Err(error) => {
                tracing::warn!(duty = self.duty.as_str(), %error, failures, "a duty of the relay failed; trying again");
                self.pause = Some(self.backoff.fail());
            }
        }
    }
}
