//! Publishing what a row says must be in the broker, until it is confirmed or pointless. The source message is acknowledged
//! then, each by itself: with the broker out of memory, draining its queues is what helps.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::acks::Receipt;
use super::coalesce::Holder;
use super::database::Stopping;
use super::locks::DeliveryLock;
use super::trace::Trace;
use crate::broker::published::PublishError;
use crate::broker::publisher::{Publisher, Target};
use crate::broker::unconfirmed::Unconfirmed;
use crate::broker::wire::Undecodable;
use crate::domain::dead_reason::DeadReason;
use crate::domain::delivery::Successor;
use crate::domain::message::Message;
use crate::reconnect::Backoff;
use crate::store::deliveries::{Hold, Snapshot};
use crate::telemetry::metrics;
use crate::telemetry::names::HeldReason;

/// How often a retry is offered to the broker, before PostgreSQL keeps it until it is due.
const OFFERS: u32 = 2;

/// One message to publish.
pub struct Follow {
    target: Target,
    message: Message,
    /// When it should be in a work queue.
    due: Instant,
}

/// A message to publish, and what is acknowledged when it is in the broker.
pub struct Owed {
    pub follow: Follow,
    pub receipt: Receipt,
    /// Of the delivery that is settled with it.
    pub _lock: Option<DeliveryLock>,
    pub _trace: Option<Arc<Trace>>,
}

impl Owed {
    fn message(&self) -> (Target, &Message) {
        (self.follow.target.clone(), &self.follow.message)
    }
}

/// The successor of a row as a message. `None`: nothing has to follow.
pub fn follow(successor: Successor, snapshot: &Snapshot, message: &Message) -> Option<Follow> {
    let (target, attempt) = match successor {
        Successor::Delay { attempt, ms } => (Target::Delay(ms), attempt),
        Successor::Retry { attempt } => (Target::Retry, attempt),
        Successor::DeadLetter { attempts } => (Target::Dead(snapshot.dead_letter_headers()), attempts),
        Successor::Nothing => return None,
    };
    // The row knows best; the message's own headers may be from before a requeue.
    let message = Message {
        max_attempts: snapshot.row.max_attempts,
        base_attempts: snapshot.row.base_attempts,
        ..message.asking_for(attempt)
    };
    let due_in_ms = snapshot.row.due_in_ms.unwrap_or(0).max(0) as u64;
    Some(Follow { target, message, due: Instant::now() + Duration::from_millis(due_in_ms) })
}

impl Follow {
    /// The same wait in PostgreSQL: as if the message had been published, received and held.
    fn hold(&self) -> Hold {
        let delay_ms = self.due.saturating_duration_since(Instant::now()).as_millis() as i64;
        Hold { key: self.message.key(), attempt: self.message.attempt, delay_ms }
    }
}

/// Publishes what follows.
pub struct Successors {
    pub publisher: Publisher,
    pub access: Arc<Access>,
    /// For what the broker does not take.
    pub holds: Holder,
    pub abandon: CancellationToken,
}

impl Successors {
    /// Publishes all, also when the channel that brought a source message is gone: the copy that the broker hands out again may
    /// have been consumed before the row changed, and then nobody else would publish this.
    ///
    /// A retry that the broker does not take is held. A dead letter has no other place, so its source stays with the broker.
    pub async fn publish(&self, owed: Vec<Owed>) -> Result<(), Stopping> {
        let (dead, retries) = owed.into_iter().partition(|owed: &Owed| matches!(owed.follow.target, Target::Dead(_)));
        let open = |owed| Unconfirmed::new(owed, Owed::message);
        let (dead, retries) = tokio::join!(self.publish_dead_letters(open(dead)), self.publish_or_hold(open(retries)));
        dead.and(retries)
    }

    /// Acknowledges, after publishing what follows.
    pub async fn publish_and_settle(&self, next: Option<Follow>, receipt: &Receipt) -> Result<(), Stopping> {
        match next {
            Some(follow) => {
                self.publish(vec![Owed { follow, receipt: receipt.clone(), _lock: None, _trace: None }]).await
            }
            None => {
                receipt.settle();
                Ok(())
            }
        }
    }

    async fn publish_dead_letters(&self, mut open: Unconfirmed<Owed>) -> Result<(), Stopping> {
        while let Some(error) = self.offer(&mut open, std::future::pending()).await? {
            self.recover(&error, &mut open).await?;
        }
        Ok(())
    }

    async fn publish_or_hold(&self, mut open: Unconfirmed<Owed>) -> Result<(), Stopping> {
        while !open.is_empty() {
            match self.offer(&mut open, self.publisher.blocked()).await? {
                Some(error) if open.failures() + 1 < OFFERS => self.recover(&error, &mut open).await?,
                Some(error) => {
                    tracing::warn!(%error, messages = open.len(), "publishing failed; PostgreSQL keeps the retries");
                    break;
                }
                None if open.is_empty() => {}
                None => {
                    let messages = open.len();
                    tracing::warn!(messages, "the broker is blocked by an alarm; PostgreSQL keeps the retries");
                    break;
                }
            }
        }
        self.hold(open.into_open()).await
    }

    /// Publishes once, until all are answered or there is no point in waiting any longer.
    async fn offer(
        &self,
        open: &mut Unconfirmed<Owed>,
        pointless: impl Future<Output = ()>,
    ) -> Result<Option<PublishError>, Stopping> {
        let offer = open.offer_unless(&self.publisher, pointless, |owed| owed.receipt.settle());
        self.abandon.run_until_cancelled(offer).await.ok_or(Stopping)
    }

    async fn recover(&self, error: &PublishError, open: &mut Unconfirmed<Owed>) -> Result<(), Stopping> {
        if matches!(error, PublishError::Returned(_)) {
            self.access.declare_again().await;
        }
        self.abandon.run_until_cancelled(open.pause(error)).await.ok_or(Stopping)
    }

    /// Where the row has moved on, it is with somebody else, who owns what follows.
    async fn hold(&self, owed: Vec<Owed>) -> Result<(), Stopping> {
        let hold = async |owed: Owed| {
            if self.holds.ask(owed.follow.hold()).await? {
                metrics::held(HeldReason::OurFault);
            }
            owed.receipt.settle();
            Ok::<(), Stopping>(())
        };
        future::try_join_all(owed.into_iter().map(hold)).await.map(drop)
    }

    /// Bytes that are no message of ours go to the dead-letter queue: until that is confirmed, or the source channel is gone.
    pub async fn dead_letter_foreign(
        &self,
        error: &Undecodable,
        body: &[u8],
        receipt: &Receipt,
    ) -> Result<(), Stopping> {
        tracing::error!(%error, "a message that is not ours goes to the dead-letter queue");
        metrics::dead_letter(DeadReason::Undecodable);
        let mut backoff = Backoff::default();
        while let Err(failure) = self.publisher.publish_undecodable(error, body).await {
            if !receipt.is_open() {
                return Err(Stopping);
            }
            tracing::warn!(error = %failure, failures = backoff.failures(), "publishing failed; trying again");
            if !backoff.pause_until(&self.abandon).await {
                return Err(Stopping);
            }
        }
        receipt.settle();
        Ok(())
    }
}
