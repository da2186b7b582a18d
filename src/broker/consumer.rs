//! Consuming with manual acknowledgement, on a connection of its own.

use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures_util::stream::FuturesOrdered;
use futures_util::{StreamExt, TryStreamExt};
use lapin::options::{BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{BasicProperties, Channel};

use super::connection::Link;
use super::wire::{self, Undecodable};
use super::{BrokerError, Result, within};
use crate::domain::message::Message;

/// One message that the broker has handed out. Until it is acknowledged the broker keeps it, and hands it out again if we die.
pub struct Incoming {
    pub tag: u64,
    pub redelivered: bool,
    pub delivery_count: u32,
    /// Present on dead letters of the dead-letter queue that we wrote.
    pub dead_letter_attempts: Option<i32>,
    pub content: Content,
}

pub enum Content {
    Message(Message),
    /// A marker, with the time of its publishing.
    Marker(DateTime<Utc>),
    /// Not one of ours: the reason and the bytes.
    Foreign(Undecodable, Bytes),
}

impl Content {
    pub fn message(&self) -> Option<&Message> {
        match self {
            Content::Message(message) => Some(message),
            Content::Marker(_) | Content::Foreign(..) => None,
        }
    }

    /// Of the payload, which whoever processes the message has in memory sooner or later.
    pub fn bytes(&self) -> usize {
        match self {
            Content::Message(message) => message.body.len(),
            Content::Marker(_) => 0,
            Content::Foreign(_, body) => body.len(),
        }
    }

    fn read(properties: &BasicProperties, body: Vec<u8>) -> Content {
        if let Some(published_at) = wire::marker(properties) {
            return Content::Marker(published_at);
        }
        let body = Bytes::from(body);
        match wire::decode(properties, body.clone()) {
            Ok(message) => Content::Message(message),
            Err(error) => Content::Foreign(error, body),
        }
    }
}

/// A consumer of one queue.
pub struct Subscription {
    queue: String,
    consumer: lapin::Consumer,
    channel: Arc<Channel>,
    link: Arc<Link>,
}

/// Acknowledges on the channel that delivered. Cheap to clone.
#[derive(Clone)]
pub struct Acknowledger {
    channel: Arc<Channel>,
    link: Arc<Link>,
}

impl Subscription {
    pub async fn open(link: Arc<Link>, queue: &str, prefetch: u16, tag: &str) -> Result<Subscription> {
        let channel = Arc::new(link.channel().await?);
        let consumer = consume(&link, &channel, queue, prefetch, tag).await?;
        Ok(Subscription { queue: queue.to_owned(), consumer, channel, link })
    }

    /// Subscribes again on the same channel, after `cancel` and when `next` has ended. What is unacknowledged stays so.
    pub async fn renew(&mut self, prefetch: u16) -> Result<()> {
        let tag = self.consumer.tag();
        self.consumer = consume(&self.link, &self.channel, &self.queue, prefetch, tag.as_str()).await?;
        Ok(())
    }

    /// The next message. `None` or an error: the subscription is over.
    pub async fn next(&mut self) -> Option<Result<Incoming>> {
        let delivery = match self.consumer.next().await? {
            Ok(delivery) => delivery,
            Err(error) => return Some(Err(BrokerError::from(error))),
        };
        Some(Ok(Incoming {
            tag: delivery.delivery_tag,
            redelivered: delivery.redelivered,
            delivery_count: wire::delivery_count(&delivery.properties),
            dead_letter_attempts: wire::dead_letter_attempts(&delivery.properties),
            content: Content::read(&delivery.properties, delivery.data),
        }))
    }

    pub fn acknowledger(&self) -> Acknowledger {
        Acknowledger { channel: self.channel.clone(), link: self.link.clone() }
    }

    /// Asks the broker for no more; what was handed out can still be acknowledged.
    pub async fn cancel(&self) -> Result<()> {
        let tag: ShortString = self.consumer.tag();
        let cancel = self.channel.basic_cancel(tag, BasicCancelOptions::default());
        within(self.link.settings().operation_timeout, "basic.cancel", cancel).await
    }
}

async fn consume(link: &Link, channel: &Channel, queue: &str, prefetch: u16, tag: &str) -> Result<lapin::Consumer> {
    let limit = link.settings().operation_timeout;
    within(limit, "basic.qos", channel.basic_qos(prefetch, BasicQosOptions::default())).await?;
    let options = BasicConsumeOptions::default();
    let consume = channel.basic_consume(queue.into(), tag.into(), options, FieldTable::default());
    within(limit, "basic.consume", consume).await
}

impl Acknowledger {
    /// Acknowledges one message, or with `multiple` every unacknowledged one up to it.
    pub async fn ack(&self, tag: u64, multiple: bool) -> Result<()> {
        let ack = self.channel.basic_ack(tag, BasicAckOptions { multiple });
        within(self.link.settings().operation_timeout, "basic.ack", ack).await
    }

    /// Acknowledges many, each a tag and whether it is `multiple`, in this order and with one wait for all.
    pub async fn ack_all(&self, acks: impl IntoIterator<Item = (u64, bool)>) -> Result<()> {
        let acks = acks.into_iter().map(|(tag, multiple)| self.channel.basic_ack(tag, BasicAckOptions { multiple }));
        let all: FuturesOrdered<_> = acks.collect();
        within(self.link.settings().operation_timeout, "basic.ack", all.try_collect()).await
    }

    /// While this is true, acknowledging makes sense; otherwise the broker hands the messages out again.
    pub fn is_open(&self) -> bool {
        self.link.is_connected() && self.channel.status().connected()
    }

    /// Gives back everything unacknowledged by closing the channel.
    pub async fn close(&self) {
        let limit = self.link.settings().operation_timeout;
        let _ = within(limit, "channel.close", self.channel.close(200, "done".into())).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::message::{Body, Message};

    #[test]
    fn a_message_counts_with_its_payload_whether_it_carries_it_or_not() {
        let reference = Message {
            event_id: uuid::Uuid::nil(),
            endpoint_id: uuid::Uuid::nil(),
            tenant: "acme".into(),
            event_type: "order.created".into(),
            body: Body::InPostgres { bytes: 1_000_000 },
            attempt: 1,
            max_attempts: 5,
            base_attempts: 0,
            traceparent: None,
            claimed_ms: None,
        };
        let carried = reference.with(Bytes::from(vec![b'1'; 1_000_000]));
        for message in [reference, carried] {
            assert_eq!(Content::Message(message).bytes(), 1_000_000);
        }
    }
}
