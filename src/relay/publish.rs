//! Publishing batches until every copy is confirmed, and finding the message that can never be.

use std::time::SystemTime;

use super::declare::declare;
use super::{dead_letters, trace};
use crate::broker::Settings;
use crate::broker::declare::ABSENCE;
use crate::broker::published::PublishError;
use crate::broker::publisher::{Publisher, Target};
use crate::broker::topology::Topology;
use crate::broker::unconfirmed::Unconfirmed;
use crate::domain::dead_reason::DeadReason;
use crate::domain::message::Message;
use crate::store::{Db, deliveries};
use crate::telemetry::metrics;

/// The broker may refuse a message this often before it is set aside.
const TRIES: u32 = 3;

/// What publishes, and what it needs where the broker refuses or has lost something.
pub(super) struct Publishing {
    pub db: Db,
    pub publisher: Publisher,
    pub broker: Settings,
    pub topology: Topology,
}

impl Publishing {
    /// Publishes first attempts, until every one is confirmed or set aside as impossible to publish.
    pub async fn first_attempts(&self, messages: Vec<Message>) {
        self.all(&Target::Deliver, messages).await;
    }

    /// Publishes releases and adoptions: their workers read the row first, so a copy that is still there does no harm.
    pub async fn due(&self, messages: Vec<Message>) {
        self.all(&Target::Retry, messages).await;
    }

    async fn all(&self, target: &Target, messages: Vec<Message>) {
        let began = SystemTime::now();
        let mut open = Unconfirmed::to(target, messages);
        while let Some(error) = open.offer(&self.publisher, |confirmed| self.count(confirmed, began)).await {
            open.again();
            match error {
                PublishError::Returned(_) => self.declare_again().await,
                // The broker closed the channel over one message and does not say which; it may be one of another batch.
                PublishError::Refused(_) if open.failures() > 0 => return self.one_by_one(open.into_open()).await,
                PublishError::Refused(_) | PublishError::Nacked | PublishError::Lost(_) => {}
            }
            open.pause(&error).await;
        }
    }

    /// Each alone, on a connection of its own: what is refused there is refused for itself, and takes nothing of others along.
    async fn one_by_one(&self, messages: Vec<(Target, Message)>) {
        let names = self.topology.names.clone();
        let publisher = Publisher::new(self.broker.clone(), names, "posthaste relay publish one by one");
        for (target, message) in messages {
            self.one(&publisher, &target, message).await;
        }
        publisher.close().await;
    }

    async fn one(&self, publisher: &Publisher, target: &Target, message: Message) {
        let (mut refusals, began) = (0, SystemTime::now());
        let mut open = Unconfirmed::to(target, vec![message.clone()]);
        while let Some(error) = open.offer(publisher, |confirmed| self.count(confirmed, began)).await {
            match &error {
                PublishError::Returned(_) => self.declare_again().await,
                PublishError::Refused(refused) => {
                    refusals += 1;
                    if refusals >= TRIES && self.set_aside(publisher, &message, &refused.to_string()).await {
                        return;
                    }
                }
                PublishError::Nacked | PublishError::Lost(_) => {}
            }
            open.pause(&error).await;
        }
    }

    /// The delivery ends as dead with the broker's reason; an operator sees it with `posthaste dead list`. False: try again.
    async fn set_aside(&self, publisher: &Publisher, message: &Message, error: &str) -> bool {
        let key = message.key();
        let reason = DeadReason::Unpublishable;
        match deliveries::mark_dead(&self.db, key, message.attempt, reason, Some(error)).await {
            Ok(Some(row)) => {
                metrics::dead_letter(reason);
                tracing::error!(event_id = %key.event_id, endpoint_id = %key.endpoint_id, error,
                    "set aside: the broker does not take the message");
                // A payload that is too large for a work queue is too large for a dead letter as well, but it may be the queue.
                dead_letters::write(publisher, vec![(message.clone(), row)]).await;
                true
            }
            // The row has moved on: then somebody else has published it after all.
            Ok(None) => true,
            Err(error) => {
                tracing::warn!(%error, "cannot set aside a delivery");
                false
            }
        }
    }

    /// A returned message means that its queue or binding is gone.
    async fn declare_again(&self) {
        tracing::warn!("the broker has no queue for a message; declaring the topology again");
        tokio::time::sleep(ABSENCE).await;
        if let Err(error) = declare(&self.db, &self.broker, &self.topology).await {
            tracing::warn!(%error, "cannot declare the topology");
        }
    }

    fn count(&self, (target, message): &(Target, Message), began: SystemTime) {
        metrics::relay_published(1);
        trace::sent(target, message, &self.topology.names, began);
    }
}
