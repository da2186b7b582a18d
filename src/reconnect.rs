//! Trying again where a server of ours has failed: how often it has, and the wait before the next try.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::reconnect;

/// Failures in a row. The pauses grow with them, and begin anew after a success.
#[derive(Debug, Default)]
pub struct Backoff {
    failures: u32,
}

impl Backoff {
    pub fn failures(&self) -> u32 {
        self.failures
    }

    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Counts one more failure, and says how long to wait.
    pub fn fail(&mut self) -> Duration {
        let pause = reconnect::pause(self.failures, rand::random());
        self.failures = self.failures.saturating_add(1);
        pause
    }

    /// Counts one more failure, and waits.
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.fail()).await;
    }

    /// The same, but no longer than until `stop`: then it is false.
    pub async fn pause_until(&mut self, stop: &CancellationToken) -> bool {
        stop.run_until_cancelled(self.pause()).await.is_some()
    }
}
