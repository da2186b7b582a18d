//! Publishing batches until every copy is confirmed, and finding the message that can never be.

use super::context::Context;
use super::dead_letters;
use super::declare::declare;
use crate::broker::declare::ABSENCE;
use crate::broker::published::PublishError;
use crate::broker::publisher::{Publisher, Target};
use crate::broker::unconfirmed::Unconfirmed;
use crate::domain::dead_reason::DeadReason;
use crate::domain::message::Message;
use crate::store::deliveries;
use crate::telemetry::metrics;

/// The broker may refuse a message this often before it is set aside.
const TRIES: u32 = 3;

/// Publishes first attempts, until every one is confirmed or set aside as impossible to publish.
pub(super) async fn first_attempts(context: &Context, messages: Vec<Message>) {
    all(context, &Target::Deliver, messages).await;
}

/// Publishes releases and adoptions: their workers read the row first, so a copy that is still there does no harm.
pub(super) async fn due(context: &Context, messages: Vec<Message>) {
    all(context, &Target::Retry, messages).await;
}

async fn all(context: &Context, target: &Target, messages: Vec<Message>) {
    let mut open = Unconfirmed::to(target, messages);
    while let Some(error) = open.offer(&context.publisher, count).await {
        match error {
            PublishError::Returned(_) => declare_again(context).await,
            // The broker closed the channel over one message and does not say which; it may be one of another batch.
            PublishError::Refused(_) if open.failures() > 0 => return one_by_one(context, open.into_open()).await,
            PublishError::Refused(_) | PublishError::Nacked | PublishError::Lost(_) => {}
        }
        open.pause(&error).await;
    }
}

fn count(_confirmed: &(Target, Message)) {
    metrics::relay_published(1);
}

/// Each alone, on a connection of its own: what is refused there is refused for itself, and takes nothing of others along.
async fn one_by_one(context: &Context, messages: Vec<(Target, Message)>) {
    let names = context.topology.names.clone();
    let publisher = Publisher::new(context.broker.clone(), names, "posthaste relay publish one by one");
    for (target, message) in messages {
        one(context, &publisher, &target, message).await;
    }
    publisher.close().await;
}

async fn one(context: &Context, publisher: &Publisher, target: &Target, message: Message) {
    let mut refusals = 0;
    let mut open = Unconfirmed::to(target, vec![message.clone()]);
    while let Some(error) = open.offer(publisher, count).await {
        match &error {
            PublishError::Returned(_) => declare_again(context).await,
            PublishError::Refused(refused) => {
                refusals += 1;
                if refusals >= TRIES && set_aside(context, publisher, &message, &refused.to_string()).await {
                    return;
                }
            }
            PublishError::Nacked | PublishError::Lost(_) => {}
        }
        open.pause(&error).await;
    }
}

/// The delivery ends as dead with the broker's reason; an operator sees it with `posthaste dead list`. False: try again.
async fn set_aside(context: &Context, publisher: &Publisher, message: &Message, error: &str) -> bool {
    let key = message.key();
    let reason = DeadReason::Unpublishable;
    match deliveries::mark_dead(&context.db, key, message.attempt, reason, Some(error)).await {
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
async fn declare_again(context: &Context) {
    tracing::warn!("the broker has no queue for a message; declaring the topology again");
    tokio::time::sleep(ABSENCE).await;
    if let Err(error) = declare(&context.db, &context.broker, &context.topology).await {
        tracing::warn!(%error, "cannot declare the topology");
    }
}
