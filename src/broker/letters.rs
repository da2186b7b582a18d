//! Looking through the dead-letter queue without losing anything in it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Result;
use super::connection::Link;
use super::consumer::{Acknowledger, Delivery, Subscription};
use super::declare::message_count;

/// How long a queue may stay silent before a pass takes it as read.
const SILENCE: Duration = Duration::from_millis(700);

/// One bounded pass over the dead-letter queue. Letters are taken unacknowledged; what is not acknowledged goes back to
/// its place when the pass is closed. The queue's own delivery limit is practically infinite, so looking costs nothing.
pub struct Pass {
    subscription: Subscription,
    link: Arc<Link>,
    /// Letters still to be expected in this pass.
    remaining: u32,
    /// Letters in the queue when the pass began; there may be more than one pass takes.
    pub count: u32,
    waiting: VecDeque<Delivery>,
}

impl Pass {
    /// `most` bounds the letters in hand; it is also the prefetch.
    pub async fn open(link: Arc<Link>, queue: &str, most: u16) -> Result<Pass> {
        let count = message_count(&link, queue).await?.unwrap_or(0);
        let subscription = Subscription::open(link.clone(), queue, most, "posthaste.sweep").await?;
        let remaining = count.min(u32::from(most));
        Ok(Pass { subscription, link, remaining, count, waiting: VecDeque::new() })
    }

    /// The next letters, up to `limit`. Empty: the pass is over.
    pub async fn next(&mut self, limit: usize) -> Result<Vec<Delivery>> {
        while self.waiting.len() < limit && self.remaining > 0 {
            match tokio::time::timeout(SILENCE, self.subscription.next()).await {
                Ok(Some(delivery)) => {
                    self.waiting.push_back(delivery?);
                    self.remaining -= 1;
                }
                Ok(None) | Err(_) => self.remaining = 0,
            }
        }
        let taken = self.waiting.len().min(limit);
        Ok(self.waiting.drain(..taken).collect())
    }

    pub fn acknowledger(&self) -> Acknowledger {
        self.subscription.acknowledger()
    }

    /// Returns every letter that was not acknowledged.
    pub async fn close(self) {
        self.subscription.acknowledger().close().await;
        drop(self.link);
    }
}
