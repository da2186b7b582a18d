//! How a message's way ends without an attempt: its delivery is held, or dead.

use std::time::Duration;

use super::super::database::{Stopping, until_answered_or_done};
use super::super::ready::Ready;
use super::super::successors::{Follow, Owed, follow};
use super::{Processing, Stage};
use crate::domain::dead_reason::DeadReason;
use crate::domain::decision::our_fault_pause_ms;
use crate::domain::delivery::successor;
use crate::domain::gate::Until;
use crate::domain::poison;
use crate::store::deliveries::{self, Hold, Snapshot};
use crate::telemetry::metrics;
use crate::telemetry::names::HeldReason;

impl Processing {
    /// Back to PostgreSQL without spending an attempt. A row that has moved on is read again.
    pub(super) async fn hold<T>(&self, until: Until, reason: HeldReason) -> Result<Stage<T>, Stopping> {
        let (key, attempt) = (self.message.key(), self.message.attempt);
        let delay_ms = match until {
            Until::Now => 0,
            Until::OwnTime => -(self.age_ms() as i64),
            Until::In(ms) => ms as i64,
        };
        if !self.context.holds.ask(Hold { key, attempt, delay_ms }).await? {
            return Ok(Stage::Again);
        }
        metrics::held(reason);
        tracing::debug!(event_id = %key.event_id, endpoint_id = %key.endpoint_id, reason = reason.as_str(), delay_ms, "held");
        self.receipt.settle();
        Ok(Stage::Done)
    }

    pub(super) async fn hold_for_our_fault<T>(&self) -> Result<Stage<T>, Stopping> {
        self.hold(Until::In(our_fault_pause_ms(self.age_ms())), HeldReason::OurFault).await
    }

    /// The endpoint's URL is not allowed. It is disabled, as one that answered 410 is: nothing is sent, no attempt is spent,
    /// and somebody has to give it another URL and enable it. Until the database has it, nobody may try again at once.
    pub(super) async fn refuse<T>(&self, endpoint: &Ready) -> Result<Stage<T>, Stopping> {
        self.context.disabling.refuse(endpoint, endpoint.refused.as_deref().unwrap_or_default());
        self.hold(Until::In(our_fault_pause_ms(self.age_ms())), HeldReason::Disabled).await
    }

    /// Until it may be tried, and some time more, which is different for each.
    pub(super) async fn hold_suspect<T>(&self, rest: Duration) -> Result<Stage<T>, Stopping> {
        let pause = our_fault_pause_ms(self.age_ms());
        let held = rest.as_millis() as u64 + poison::spread_ms(pause, rand::random());
        self.hold(Until::In(held), HeldReason::OurFault).await
    }

    pub(super) async fn mark_poison<T>(&self, error: &str) -> Result<Stage<T>, Stopping> {
        let ended = self.mark_dead(DeadReason::Poison, error).await?;
        self.context.quarantine.release(self.message.key()).await?;
        Ok(ended)
    }

    /// Ends the delivery without an attempt, and writes its dead letter.
    pub(super) async fn mark_dead<T>(&self, reason: DeadReason, error: &str) -> Result<Stage<T>, Stopping> {
        let (key, n) = (self.message.key(), self.message.attempt);
        let end = || deliveries::mark_dead(&self.context.db, key, n, reason, Some(error));
        let (snapshot, unsure) = until_answered_or_done(&self.context.abandon, "end a delivery", end).await?;
        match snapshot {
            Some(snapshot) => self.dead_letter(&snapshot, reason).await?,
            None if unsure && self.may_proceed(self.received.unsure(true)).await?.is_none() => {}
            None => return Ok(Stage::Again),
        }
        Ok(Stage::Done)
    }

    async fn dead_letter(&self, snapshot: &Snapshot, reason: DeadReason) -> Result<(), Stopping> {
        metrics::dead_letter(reason);
        tracing::error!(event_id = %snapshot.key.event_id, endpoint_id = %snapshot.key.endpoint_id,
            reason = reason.as_str(), "dead letter without an attempt");
        let next = successor(&snapshot.row, self.context.policies.delays());
        self.finish(follow(next, snapshot, &self.message)).await
    }

    /// Our own code panicked. The delivery is held, so that nothing is lost and no attempt is spent; one that does it again
    /// and again is poison.
    pub(super) async fn panicked(&self) -> Result<(), Stopping> {
        let (key, attempt) = (self.message.key(), self.message.attempt);
        tracing::error!(event_id = %key.event_id, endpoint_id = %key.endpoint_id, attempt,
            "a fault of ours: the worker panicked at this message");
        let ended: Stage<()> = if self.context.quarantine.failed(key, attempt).await? {
            self.mark_poison("the worker panicked at it again and again").await?
        } else {
            self.hold_for_our_fault().await?
        };
        // Where the row has moved on, this copy is not what makes it go, and reading it may be what panicked.
        if let Stage::Again = ended {
            self.receipt.settle();
        }
        Ok(())
    }

    /// Acknowledges, after publishing what follows.
    pub(super) async fn finish(&self, next: Option<Follow>) -> Result<(), Stopping> {
        match next {
            Some(follow) => {
                self.context.successors.publish(vec![Owed { follow, receipt: self.receipt.clone(), _lock: None }]).await
            }
            None => {
                self.receipt.settle();
                Ok(())
            }
        }
    }
}
