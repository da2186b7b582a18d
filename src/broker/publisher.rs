//! Confirmed publishing: persistent, `mandatory`, pipelined.
//!
//! A publish counts only when the broker has confirmed it. A returned (unroutable) or nacked message is a failure.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use lapin::Channel;
use tokio::sync::Mutex;

use super::connection::Link;
use super::pipeline::{Part, Parts, send_all};
use super::published::{PublishError, Published};
use super::topology::{DEAD, DELIVER, Names, RETRY};
use super::wire::{self, Undecodable};
use super::{BrokerError, Settings};
use crate::domain::message::{Body, Carried, DeadLetterHeaders, Message};
use crate::domain::work_queue::WorkQueue;

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
    Dead(DeadLetterHeaders),
}

/// An alarm lasts for seconds at least.
const LOOK_FOR_ALARMS: Duration = Duration::from_millis(100);

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

    /// Publishes all within a window of unconfirmed messages, and waits for all confirms. The answers are in the order of
    /// the messages.
    pub async fn publish(&self, messages: &[(Target, &Message)]) -> Vec<Published> {
        let mut answers: Vec<Published> = messages.iter().map(|_| Ok(())).collect();
        self.publish_each(messages, |index, answer| answers[index] = answer).await;
        answers
    }

    /// The same, saying what the broker answered to each, by its place, as soon as it has.
    pub async fn publish_each(&self, messages: &[(Target, &Message)], answered: impl FnMut(usize, Published)) {
        let parts = messages.iter().map(|(target, message)| self.part(target, message));
        self.publish_parts(Box::new(parts), answered).await;
    }

    /// Ends when an alarm blocks the connection, at once where one does already.
    pub async fn blocked(&self) {
        let is_blocked = |open: &Arc<Open>| open.is_usable() && open.link.is_blocked();
        while !self.inner.open.lock().await.as_ref().is_some_and(is_blocked) {
            tokio::time::sleep(LOOK_FOR_ALARMS).await;
        }
    }

    /// A dead letter for bytes that could not be read as a message.
    pub async fn publish_undecodable(&self, error: &Undecodable, body: &[u8]) -> Published {
        let properties = wire::undecodable_properties(error);
        self.publish_part(Part { exchange: self.inner.names.dead(), key: DEAD.to_owned(), properties, body }).await
    }

    /// A marker at the tail of a work queue.
    pub async fn publish_marker(&self, queue: WorkQueue, published_at: DateTime<Utc>) -> Published {
        let (exchange, key) = (self.inner.names.work().to_owned(), queue.key().to_owned());
        let properties = wire::marker_properties(published_at);
        self.publish_part(Part { exchange, key, properties, body: b"{}" }).await
    }

    fn part<'a>(&self, target: &Target, message: &'a Message) -> Part<'a> {
        let names = &self.inner.names;
        let (body, message): (&'a [u8], _) = match (&message.body, self.inner.settings.carried) {
            (Body::Here(payload), Carried::Payload) => (&payload[..], Cow::Borrowed(message)),
            (body, carried) => (&[][..], Cow::Owned(Message { body: body.to_carry(carried), ..message.clone() })),
        };
        let message = &*message;
        let (exchange, key, properties) = match target {
            Target::Deliver => (names.work().to_owned(), DELIVER.to_owned(), wire::properties(message)),
            Target::Retry => (names.work().to_owned(), RETRY.to_owned(), wire::properties(message)),
            Target::Delay(ms) => (names.delay_exchange(), ms.to_string(), wire::properties(message)),
            Target::Dead(why) => (names.dead(), DEAD.to_owned(), wire::dead_letter_properties(message, why)),
        };
        Part { exchange, key, properties, body }
    }

    async fn publish_part(&self, part: Part<'_>) -> Published {
        let mut published = Ok(());
        self.publish_parts(Box::new(std::iter::once(part)), |_, answer| published = answer).await;
        published
    }

    async fn publish_parts(&self, parts: Parts<'_>, mut answered: impl FnMut(usize, Published)) {
        let open = match self.open().await {
            Ok(open) => open,
            Err(error) => {
                let text = error.to_string();
                let lost = || Err(PublishError::Lost(BrokerError::Unavailable(text.clone())));
                return (0..parts.len()).for_each(|index| answered(index, lost()));
            }
        };
        let is_blocked = || open.is_usable() && open.link.is_blocked();
        let mut is_broken = false;
        let answered = |index, answer: Published| {
            // Another connection may lead to another node of a cluster, and a fresh channel looks for the queue's leader anew.
            is_broken |= matches!(answer, Err(PublishError::Lost(_) | PublishError::Refused(_) | PublishError::Nacked));
            answered(index, answer);
        };
        send_all(&open.channel, self.inner.settings.operation_timeout, is_blocked, parts, answered).await;
        if is_broken {
            self.discard(&open).await;
        }
    }

    async fn open(&self) -> Result<Arc<Open>, BrokerError> {
        let mut current = self.inner.open.lock().await;
        if let Some(open) = current.as_ref().filter(|open| open.is_usable()) {
            return Ok(open.clone());
        }
        // A channel that the broker closed over one message does not cost the connection.
        let reusable = current.take().and_then(Arc::into_inner).filter(|open| open.link.is_connected());
        let link = match reusable {
            Some(open) => open.link,
            None => Link::open(&self.inner.settings, &self.inner.connection_name).await?,
        };
        let channel = link.confirming_channel().await?;
        let open = Arc::new(Open { link, channel });
        *current = Some(open.clone());
        Ok(open)
    }

    /// Forgets a channel that has lost something, so that the next publish starts on a fresh one.
    async fn discard(&self, used: &Arc<Open>) {
        let mut current = self.inner.open.lock().await;
        if current.as_ref().is_some_and(|open| Arc::ptr_eq(open, used)) {
            *current = None;
        }
    }

    pub async fn close(&self) {
        if let Some(open) = self.inner.open.lock().await.take() {
            open.link.close().await;
        }
    }
}
