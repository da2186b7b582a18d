//! Confirmed publishing: persistent, `mandatory`, pipelined.
//!
//! A publish counts only when the broker has confirmed it. A returned (unroutable) or nacked message is a failure.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation, PublisherConfirm};
use thiserror::Error;
use tokio::sync::Mutex;

use super::connection::Link;
use super::topology::{DEAD, DELIVER, Names, RETRY};
use super::wire::{self, Undecodable};
use super::{BrokerError, Settings, within};
use crate::domain::message::{Message, Obituary};

/// Where a message goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The queue of first attempts.
    Deliver,
    /// The queue of due retries.
    Retry,
    /// The delay queue of this many milliseconds.
    Delay(u64),
    /// The dead-letter queue.
    Dead(Obituary),
}

/// The two queues that workers consume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkQueue {
    Deliver,
    Retry,
}

impl WorkQueue {
    pub const ALL: [WorkQueue; 2] = [WorkQueue::Deliver, WorkQueue::Retry];

    /// The routing key, which also names the queue's markers.
    pub fn key(self) -> &'static str {
        match self {
            WorkQueue::Deliver => DELIVER,
            WorkQueue::Retry => RETRY,
        }
    }
}

#[derive(Debug, Error)]
pub enum PublishError {
    /// No queue is bound for the message: the topology is incomplete.
    #[error("the broker returned the message: {0}")]
    Returned(String),
    /// The queue refused it, for example because it is full.
    #[error("the broker refused the message")]
    Nacked,
    /// The broker closed the channel over this message or one beside it, for example because it is too large.
    #[error("{0}")]
    Refused(BrokerError),
    /// Nothing is known: the connection broke or no confirm came in time.
    #[error("{0}")]
    Lost(BrokerError),
}

pub type Published = Result<(), PublishError>;

/// One connection with one confirming channel, made again when it breaks. Cheap to clone.
#[derive(Clone)]
pub struct Publisher {
    inner: Arc<Inner>,
}

struct Inner {
    settings: Settings,
    names: Names,
    connection_name: String,
    open: Mutex<Option<Arc<Open>>>,
}

struct Open {
    link: Link,
    channel: Channel,
}

impl Open {
    fn is_usable(&self) -> bool {
        self.link.is_connected() && self.channel.status().connected()
    }
}

impl Publisher {
    pub fn new(settings: Settings, names: Names, connection_name: &str) -> Publisher {
        let connection_name = connection_name.to_owned();
        Publisher { inner: Arc::new(Inner { settings, names, connection_name, open: Mutex::new(None) }) }
    }

    /// Connected and not blocked by an alarm. Connects if need be.
    pub async fn is_ready(&self) -> Result<bool, BrokerError> {
        Ok(!self.open().await?.link.is_blocked())
    }

    /// Publishes all, then waits for all confirms. The answers are in the order of the messages.
    pub async fn publish(&self, messages: &[(Target, &Message)]) -> Vec<Published> {
        let parts = messages.iter().map(|(target, message)| {
            let (exchange, key, properties) = self.address(target, message);
            (exchange, key, properties, &message.body[..])
        });
        self.publish_parts(parts.collect()).await
    }

    /// A letter for bytes that could not be read as a message.
    pub async fn publish_undecodable(&self, error: &Undecodable, body: &[u8]) -> Published {
        let properties = wire::undecodable_properties(error);
        let parts = vec![(self.inner.names.dead(), DEAD.to_owned(), properties, body)];
        self.publish_parts(parts).await.pop().unwrap_or(Err(PublishError::Nacked))
    }

    /// A marker at the tail of a work queue.
    pub async fn publish_marker(&self, queue: WorkQueue, published_at: DateTime<Utc>) -> Published {
        let properties = wire::marker_properties(published_at);
        let parts = vec![(self.inner.names.work().to_owned(), queue.key().to_owned(), properties, &b"{}"[..])];
        self.publish_parts(parts).await.pop().unwrap_or(Err(PublishError::Nacked))
    }

    fn address(&self, target: &Target, message: &Message) -> (String, String, BasicProperties) {
        let names = &self.inner.names;
        match target {
            Target::Deliver => (names.work().to_owned(), DELIVER.to_owned(), wire::properties(message)),
            Target::Retry => (names.work().to_owned(), RETRY.to_owned(), wire::properties(message)),
            Target::Delay(ms) => (names.delay_exchange(), ms.to_string(), wire::properties(message)),
            Target::Dead(obituary) => (names.dead(), DEAD.to_owned(), wire::letter_properties(message, obituary)),
        }
    }

    async fn publish_parts(&self, parts: Vec<(String, String, BasicProperties, &[u8])>) -> Vec<Published> {
        let open = match self.open().await {
            Ok(open) => open,
            Err(error) => {
                let text = error.to_string();
                let lost = || Err(PublishError::Lost(BrokerError::Unavailable(text.clone())));
                return parts.iter().map(|_| lost()).collect();
            }
        };
        let limit = self.inner.settings.operation_timeout;
        let mut confirms = Vec::with_capacity(parts.len());
        for (exchange, key, properties, body) in parts {
            confirms.push(send(&open, limit, exchange, key, properties, body).await);
        }
        let mut answers = Vec::with_capacity(confirms.len());
        for confirm in confirms {
            answers.push(match confirm {
                Ok(confirm) => confirmed(&open, limit, confirm).await,
                Err(error) => Err(error),
            });
        }
        if answers.iter().any(|answer| matches!(answer, Err(PublishError::Lost(_) | PublishError::Refused(_)))) {
            self.discard(&open).await;
        }
        answers
    }

    async fn open(&self) -> Result<Arc<Open>, BrokerError> {
        let mut slot = self.inner.open.lock().await;
        if let Some(open) = slot.as_ref().filter(|open| open.is_usable()) {
            return Ok(open.clone());
        }
        // A channel that the broker closed over one message does not cost the connection.
        let reusable = slot.take().and_then(Arc::into_inner).filter(|open| open.link.is_connected());
        let link = match reusable {
            Some(open) => open.link,
            None => Link::open(&self.inner.settings, &self.inner.connection_name).await?,
        };
        let channel = link.confirming_channel().await?;
        let open = Arc::new(Open { link, channel });
        *slot = Some(open.clone());
        Ok(open)
    }

    /// Forgets a channel that has lost something, so that the next publish starts on a fresh one.
    async fn discard(&self, used: &Arc<Open>) {
        let mut slot = self.inner.open.lock().await;
        if slot.as_ref().is_some_and(|open| Arc::ptr_eq(open, used)) {
            *slot = None;
        }
    }

    pub async fn close(&self) {
        if let Some(open) = self.inner.open.lock().await.take() {
            open.link.close().await;
        }
    }
}

async fn send(
    open: &Open,
    limit: Duration,
    exchange: String,
    key: String,
    properties: BasicProperties,
    body: &[u8],
) -> Result<PublisherConfirm, PublishError> {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let publish = open.channel.basic_publish(exchange.into(), key.into(), options, body, properties);
    patiently(open, limit, "basic.publish", publish).await.map_err(classify)
}

async fn confirmed(open: &Open, limit: Duration, confirm: PublisherConfirm) -> Published {
    match patiently(open, limit, "confirm", confirm).await.map_err(classify)? {
        Confirmation::Ack(None) => Ok(()),
        Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned)) => {
            Err(PublishError::Returned(returned.reply_text.to_string()))
        }
        Confirmation::Nack(None) | Confirmation::NotRequested => Err(PublishError::Nacked),
    }
}

/// The time-out does not run out while the broker is blocked by an alarm: it confirms everything afterwards, and trying
/// again meanwhile would only pile up copies.
async fn patiently<T>(
    open: &Open,
    limit: Duration,
    operation: &'static str,
    future: impl Future<Output = lapin::Result<T>>,
) -> Result<T, BrokerError> {
    let mut future = std::pin::pin!(future);
    loop {
        match within(limit, operation, future.as_mut()).await {
            Err(BrokerError::TimedOut { .. }) if open.is_usable() && open.link.is_blocked() => {}
            result => return result,
        }
    }
}

fn classify(error: BrokerError) -> PublishError {
    match error {
        // No such exchange: the same as an exchange without the queue.
        BrokerError::Refused { code: 404, text } => PublishError::Returned(text),
        // Precondition failed and content too large are about the message; anything else is about us or the broker.
        BrokerError::Refused { code: 311 | 406, .. } => PublishError::Refused(error),
        other => PublishError::Lost(other),
    }
}
