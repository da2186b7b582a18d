//! Publishing what a row says must be in the broker, until it is confirmed or pointless.

use tokio_util::sync::CancellationToken;

use super::Context;
use super::coalesce::Stopping;
use super::intake::Receipt;
use crate::broker::connection::Link;
use crate::broker::declare;
use crate::broker::publisher::{PublishError, Target};
use crate::broker::wire::Undecodable;
use crate::domain::delivery::Successor;
use crate::domain::message::Message;
use crate::domain::reconnect;
use crate::store::deliveries::Snapshot;

/// One message to publish.
pub struct Follow {
    pub target: Target,
    pub message: Message,
}

/// The successor of a row as a message. `None`: nothing has to follow.
pub fn follow(successor: Successor, snapshot: &Snapshot, message: &Message) -> Option<Follow> {
    let (target, attempt) = match successor {
        Successor::Delay { attempt, ms } => (Target::Delay(ms), attempt),
        Successor::Retry { attempt } => (Target::Retry, attempt),
        Successor::Letter { attempts } => (Target::Dead(snapshot.obituary()), attempts),
        Successor::Nothing => return None,
    };
    // The row knows best; the message's own headers may be from before a requeue.
    let message = Message {
        max_attempts: snapshot.row.max_attempts,
        base_attempts: snapshot.row.base_attempts,
        ..message.asking_for(attempt)
    };
    Some(Follow { target, message })
}

/// Publishes all and waits for the confirms, also when the channel that brought the source message is gone: the copy that
/// the broker hands out again may have been consumed before the row changed, and then nobody else would publish this.
pub async fn all(context: &Context, follows: Vec<Follow>) -> Result<(), Stopping> {
    let mut open = follows;
    let mut failures = 0;
    while !open.is_empty() {
        let batch: Vec<(Target, &Message)> = open.iter().map(|f| (f.target.clone(), &f.message)).collect();
        let answers = tokio::select! {
            answers = context.publisher.publish(&batch) => answers,
            () = context.abandon.cancelled() => return Err(Stopping),
        };
        let mut failed = Vec::new();
        let mut error = None;
        for (follow, answer) in open.into_iter().zip(answers) {
            if let Err(failure) = answer {
                error = Some(failure);
                failed.push(follow);
            }
        }
        if matches!(error, Some(PublishError::Returned(_))) {
            declare_again(context).await;
        }
        if let Some(error) = &error {
            pause(error, failed.len(), failures, &context.abandon).await?;
            failures += 1;
        }
        open = failed;
    }
    Ok(())
}

/// A letter for bytes that are no message of ours, until it is confirmed or the source channel is gone.
pub async fn undecodable(
    context: &Context,
    error: &Undecodable,
    body: &[u8],
    receipt: &Receipt,
) -> Result<(), Stopping> {
    let mut failures = 0;
    while let Err(failure) = context.publisher.publish_undecodable(error, body).await {
        if !receipt.is_open() {
            return Err(Stopping);
        }
        pause(&failure, 1, failures, &context.abandon).await?;
        failures += 1;
    }
    Ok(())
}

/// A queue that is gone was deleted, or the broker came back empty. PostgreSQL rebuilds what was in it.
pub async fn declare_again(context: &Context) {
    tracing::warn!("a queue is gone; declaring the topology again");
    tokio::time::sleep(declare::ABSENCE).await;
    let declared = async {
        let link = Link::open(&context.broker, "posthaste topology").await?;
        let declared = declare::declare(&link, &context.topology).await;
        link.close().await;
        declared
    };
    if let Err(error) = declared.await {
        tracing::warn!(%error, "cannot declare the topology; a relay or `posthaste topology declare` must");
    }
}

async fn pause(
    error: &PublishError,
    messages: usize,
    failures: u32,
    abandon: &CancellationToken,
) -> Result<(), Stopping> {
    tracing::warn!(%error, messages, failures, "publishing failed; trying again");
    tokio::select! {
        () = tokio::time::sleep(reconnect::pause(failures, rand::random())) => Ok(()),
        () = abandon.cancelled() => Err(Stopping),
    }
}
