//! Whether the queue of first attempts has room: it is kept nearly empty, since a first in, first out queue cannot be fair.

use std::time::Duration;

use crate::broker::Settings;
use crate::broker::depth::Depths;
use crate::reconnect::Backoff;

/// Messages ready in the queue up to which more are published.
const NEARLY_EMPTY: u32 = 25;
/// While it is longer it is looked at this often.
const AGAIN: Duration = Duration::from_millis(2);

pub(super) struct Room {
    depths: Depths,
    queue: String,
    /// Ready when it was last looked at, and published since. More than are ready now, as workers take some.
    estimate: u32,
    backoff: Backoff,
    /// The broker does not let this user ask.
    refused: bool,
}

impl Room {
    pub fn new(broker: Settings, queue: String) -> Room {
        Room { depths: Depths::new(broker), queue, estimate: 0, backoff: Backoff::default(), refused: false }
    }

    pub fn published(&mut self, messages: usize) {
        self.estimate = self.estimate.saturating_add(messages as u32);
    }

    pub fn is_free(&self) -> bool {
        self.estimate <= NEARLY_EMPTY || self.refused
    }

    /// Waits until the queue is nearly empty.
    pub async fn wait(&mut self) {
        loop {
            self.look().await;
            if self.is_free() {
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// For moments in which nothing waits: the estimate is made good before it is too high. Never ends when it is low.
    pub async fn look_ahead(&mut self) {
        if self.estimate <= NEARLY_EMPTY / 2 || self.refused {
            return std::future::pending().await;
        }
        tokio::time::sleep(AGAIN).await;
        self.look().await;
    }

    async fn look(&mut self) {
        match self.depths.ready(&self.queue).await {
            Ok(ready) => {
                self.estimate = ready;
                self.backoff.reset();
            }
            Err(error) if error.is_access_refused() => {
                tracing::warn!(%error, "the depth of the queue of first attempts cannot be read; it is not bounded");
                self.refused = true;
            }
            Err(error) => {
                let failures = self.backoff.failures();
                tracing::debug!(%error, failures, "cannot read the depth of the queue of first attempts");
                self.backoff.pause().await;
            }
        }
    }

    pub async fn close(&mut self) {
        self.depths.close().await;
    }
}
