//! Looking through the dead-letter queue without losing anything in it.

use std::sync::Arc;
use std::time::Duration;

use super::Result;
use super::connection::Link;
use super::consumer::{Acknowledger, Incoming, Subscription};

/// How long a queue may stay silent before a pass takes it as read.
const IDLE: Duration = Duration::from_millis(700);

/// One bounded pass over the dead-letter queue. Dead letters are taken unacknowledged; what is not acknowledged goes back to
/// its place when the pass is closed. The queue's own delivery limit is practically infinite, so looking costs nothing.
pub struct Pass {
    subscription: Subscription,
    /// Dead letters that this pass may still take.
    left: usize,
}

impl Pass {
    /// `most` bounds the dead letters in hand: as long as nothing is acknowledged, the broker sends no more.
    pub async fn open(link: Arc<Link>, queue: &str, most: u16) -> Result<Pass> {
        let subscription = Subscription::open(link, queue, most, "posthaste.sweep").await?;
        Ok(Pass { subscription, left: most.into() })
    }

    /// The next dead letters, up to `limit`. Empty: the queue has been silent, or the pass is full. Silence is what counts, not
    /// the queue's length: dead letters that another channel is just giving back are in no count.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<Incoming>> {
        let mut dead_letters = Vec::new();
        while dead_letters.len() < limit.min(self.left) {
            match tokio::time::timeout(IDLE, self.subscription.next()).await {
                Ok(Some(incoming)) => dead_letters.push(incoming?),
                Ok(None) | Err(_) => {
                    self.left = 0;
                    return Ok(dead_letters);
                }
            }
        }
        self.left -= dead_letters.len();
        Ok(dead_letters)
    }

    pub fn acknowledger(&self) -> Acknowledger {
        self.subscription.acknowledger()
    }

    /// Takes no more; what is in hand can still be acknowledged without making room for others.
    pub async fn cancel(&mut self) -> Result<()> {
        self.left = 0;
        self.subscription.cancel().await
    }

    /// Returns every dead letter that was not acknowledged.
    pub async fn close(self) {
        // Best effort: the cancel is answered after what was acknowledged before it.
        let _ = self.subscription.cancel().await;
        self.subscription.acknowledger().close().await;
    }
}
