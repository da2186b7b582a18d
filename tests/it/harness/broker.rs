//! Looking into the broker beside the processes under test.

use std::collections::BTreeMap;
use std::sync::PoisonError;

use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions};
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};

use super::eventually;
use super::stack::Stack;
use crate::kit::broker::{self, connect};

/// A message of the dead-letter queue, as the broker's UI would show it.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub properties: BasicProperties,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl DeadLetter {
    /// The value of a header as text; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

impl Stack {
    pub async fn channel(&self) -> Channel {
        let connection =
            self.broker.get_or_try_init(|| connect(&self.binary.amqp_url)).await.expect("a connection to the broker");
        connection.create_channel().await.expect("a channel")
    }

    pub fn queue(&self, name: &str) -> String {
        format!("{}.{name}", self.prefix)
    }

    /// Messages ready in a queue: `deliver`, `retry`, `dead` or `delay.<ms>`.
    pub async fn depth(&self, name: &str) -> u32 {
        let channel = self.channel().await;
        let depth = broker::depth(&channel, &self.queue(name)).await.expect("the queue exists");
        channel.close(200, "done".into()).await.expect("the channel can be closed");
        depth
    }

    /// Waits until so many messages are ready in the queue.
    pub async fn wait_depth(&self, name: &str, count: u32) {
        let there = async || (self.depth(name).await == count).then_some(());
        eventually(&format!("{count} messages are in {name}"), there).await;
    }

    /// Waits until the dead-letter queue has so many dead letters, and reads them; the queue keeps them. A dead letter follows the
    /// commit of its row, so it may be a moment later than the status.
    pub async fn dead_letters(&self, count: u32) -> Vec<DeadLetter> {
        // A relay that leads looks through the queue too, and then holds what is in it for a moment.
        let read = async || {
            if self.depth("dead").await != count {
                return None;
            }
            let dead_letters = self.read_dead_letters().await;
            (dead_letters.len() == count as usize).then_some(dead_letters)
        };
        let dead_letters = eventually(&format!("{count} dead letters are in the queue"), read).await;
        // What was not acknowledged returns.
        self.wait_depth("dead", count).await;
        dead_letters
    }

    /// Those that nobody holds. They return to the queue with the channel.
    async fn read_dead_letters(&self) -> Vec<DeadLetter> {
        let channel = self.channel().await;
        let mut dead_letters = Vec::new();
        while let Some(got) = channel
            .basic_get(self.queue("dead").into(), BasicGetOptions::default())
            .await
            .expect("the dead-letter queue can be read")
        {
            let properties = got.delivery.properties.clone();
            let headers = properties.headers().iter().flat_map(|table| table.inner().iter());
            let headers = headers.map(|(name, value)| (name.to_string(), shown(value))).collect();
            dead_letters.push(DeadLetter { properties, headers, body: got.delivery.data.clone() });
        }
        channel.close(200, "done".into()).await.expect("the channel can be closed");
        dead_letters
    }

    /// Takes the first message of a queue for good.
    pub async fn take(&self, name: &str) -> BasicProperties {
        let channel = self.channel().await;
        let acked = BasicGetOptions { no_ack: true };
        let got = channel.basic_get(self.queue(name).into(), acked).await.expect("the queue can be read");
        channel.close(200, "done".into()).await.expect("the channel can be closed");
        got.expect("there is a message").delivery.properties
    }

    /// Is handed the first message of a queue and gives it back without a word.
    pub async fn look_at(&self, name: &str) {
        let depth = self.depth(name).await;
        let channel = self.channel().await;
        let got = channel.basic_get(self.queue(name).into(), BasicGetOptions::default()).await;
        assert!(got.expect("the queue can be read").is_some(), "{name} has a message");
        channel.close(200, "done".into()).await.expect("the channel can be closed");
        eventually("it is back", async || (self.depth(name).await == depth).then_some(())).await;
    }

    /// Deletes queues with all that is in them, as if they had never been.
    pub async fn delete_queues(&self, names: &[&str]) {
        let channel = self.channel().await;
        for name in names {
            broker::delete(&channel, &self.queue(name)).await.expect("the queue can be deleted");
        }
        channel.close(200, "done".into()).await.expect("the channel can be closed");
    }

    /// Deletes a work queue and declares it again at once, as Posthaste would.
    pub async fn replace_queue(&self, key: &str) {
        let (channel, queue, dead) = (self.channel().await, self.queue(key), self.queue("dead"));
        let mut arguments = FieldTable::default();
        for (name, value) in [
            ("x-queue-type", "quorum"),
            ("x-dead-letter-exchange", &*dead),
            ("x-dead-letter-routing-key", "dead"),
            ("x-dead-letter-strategy", "at-least-once"),
            ("x-overflow", "reject-publish"),
        ] {
            arguments.insert(name.into(), AMQPValue::LongString(value.into()));
        }
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(100));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        broker::delete(&channel, &queue).await.expect("the queue can be deleted");
        channel.queue_declare((&*queue).into(), durable, arguments).await.expect("the same queue");
        let bind = channel.queue_bind(
            (&*queue).into(),
            (&*self.prefix).into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bind.await.expect("a binding");
    }

    /// Declares a queue of another kind than Posthaste would.
    pub async fn declare(&self, name: &str, arguments: FieldTable) {
        let queue = self.queue(name);
        self.declared.lock().unwrap_or_else(PoisonError::into_inner).push(queue.clone());
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel().await.queue_declare(queue.into(), durable, arguments).await.expect("a queue");
    }

    /// Publishes anything to the exchange of work.
    pub async fn publish(&self, key: &str, properties: BasicProperties, body: &[u8]) {
        self.publish_to(&self.prefix, key, properties, body).await;
    }

    /// Publishes anything anywhere.
    pub async fn publish_to(&self, exchange: &str, key: &str, properties: BasicProperties, body: &[u8]) {
        let channel = self.channel().await;
        channel.confirm_select(ConfirmSelectOptions::default()).await.expect("confirms");
        let publish = channel.basic_publish(
            exchange.into(),
            key.into(),
            BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
            body,
            properties,
        );
        let confirm = publish.await.expect("a publish").await.expect("a confirm");
        assert!(confirm.is_ack(), "the broker took the message");
        channel.close(200, "done".into()).await.expect("the channel can be closed");
    }
}

fn shown(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => text.to_string(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::LongInt(number) => number.to_string(),
        AMQPValue::LongLongInt(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// Deletes what a stack declared, and proves that it is gone.
pub async fn delete_all(url: &str, prefix: &str, mut queues: Vec<String>) -> Result<(), String> {
    queues.extend(["deliver", "retry", "dead"].map(|name| format!("{prefix}.{name}")));
    delete(url, prefix, &queues).await.map_err(|error| format!("deleting queues: {error}"))?;
    match left(url, &queues).await {
        Ok(left) if left.is_empty() => Ok(()),
        Ok(left) => Err(format!("queues: {left:?}")),
        Err(error) => Err(format!("looking for queues: {error}")),
    }
}

async fn delete(url: &str, prefix: &str, queues: &[String]) -> lapin::Result<()> {
    let connection = connect(url).await?;
    let channel = connection.create_channel().await?;
    for queue in queues {
        broker::delete(&channel, queue).await?;
    }
    for exchange in [prefix.to_owned(), format!("{prefix}.delay"), format!("{prefix}.dead")] {
        channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await?;
    }
    connection.close(200, "done".into()).await
}

async fn left(url: &str, queues: &[String]) -> lapin::Result<Vec<String>> {
    let connection = connect(url).await?;
    let mut left = Vec::new();
    for queue in queues {
        if broker::depth(&connection.create_channel().await?, queue).await.is_ok() {
            left.push(queue.clone());
        }
    }
    connection.close(200, "done".into()).await?;
    Ok(left)
}
