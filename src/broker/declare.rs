//! Declaring, checking and retiring the topology.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};
use thiserror::Error;

use super::connection::Link;
use super::topology::{Argument, Queue, Topology};
use super::{BrokerError, Result, within};

/// A queue or exchange that exists with other arguments, or is missing.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Difference {
    #[error("{kind} '{name}' is missing; declare it with `posthaste topology declare`")]
    Missing { kind: &'static str, name: String },
    #[error(
        "{kind} '{name}' exists with another {argument}: {text}. Delete it when it is empty, or choose another broker.prefix"
    )]
    Conflict { kind: &'static str, name: String, argument: String, text: String },
}

#[derive(Debug, Error)]
pub enum DeclareError {
    #[error("topology: {0}")]
    Conflict(Difference),
    #[error(transparent)]
    Broker(#[from] BrokerError),
}

/// Declares everything; declaring again what is there already changes nothing.
pub async fn declare(link: &Link, topology: &Topology) -> std::result::Result<(), DeclareError> {
    let channel = link.channel().await?;
    for name in &topology.exchanges {
        declare_exchange(link, &channel, name, false).await.map_err(|error| conflict("exchange", name, error))?;
    }
    for queue in &topology.queues {
        declare_queue(link, &channel, queue).await.map_err(|error| conflict("queue", &queue.name, error))?;
        bind(link, &channel, queue).await?;
    }
    close(link, &channel).await;
    Ok(())
}

/// Says what differs between the broker and the topology. Changes nothing, except that it renews existing bindings.
pub async fn check(link: &Link, topology: &Topology) -> Result<Vec<Difference>> {
    let mut differences = Vec::new();
    for name in &topology.exchanges {
        // A refusal closes the channel, so each question gets one of its own.
        let channel = link.channel().await?;
        let found = declare_exchange(link, &channel, name, true).await;
        differences.extend(difference("exchange", name, found)?);
        close(link, &channel).await;
    }
    for queue in &topology.queues {
        differences.extend(check_queue(link, queue).await?);
    }
    Ok(differences)
}

async fn check_queue(link: &Link, queue: &Queue) -> Result<Option<Difference>> {
    let channel = link.channel().await?;
    let exists = figures_on(link, &channel, &queue.name).await.map(drop);
    let mut found = difference("queue", &queue.name, exists)?;
    if found.is_none() {
        // A passive declare does not compare arguments; declaring what exists does, and creates nothing.
        let same = declare_queue(link, &channel, queue).await;
        found = difference("queue", &queue.name, same)?;
    }
    close(link, &channel).await;
    Ok(found)
}

/// How long a queue that was deleted stays so before we declare it again. RabbitMQ 3.10 does not cancel the consumers of a
/// quorum queue that is back within some tens of milliseconds, nor does it serve them.
pub const ABSENCE: Duration = Duration::from_millis(500);

/// What the broker says of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Ready, that is in no consumer's hand.
    pub messages: u32,
    pub consumers: u32,
}

/// `None` when there is no such queue.
pub async fn figures(link: &Link, queue: &str) -> Result<Option<Figures>> {
    let channel = link.channel().await?;
    match figures_on(link, &channel, queue).await {
        Ok(figures) => {
            close(link, &channel).await;
            Ok(Some(figures))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Messages ready in a queue; `None` when there is no such queue.
pub async fn message_count(link: &Link, queue: &str) -> Result<Option<u32>> {
    Ok(figures(link, queue).await?.map(|figures| figures.messages))
}

pub(super) async fn figures_on(link: &Link, channel: &Channel, queue: &str) -> Result<Figures> {
    let options = QueueDeclareOptions { passive: true, durable: true, ..QueueDeclareOptions::default() };
    let declare = channel.queue_declare(queue.into(), options, FieldTable::default());
    let queue = within(link.settings().operation_timeout, "queue.declare", declare).await?;
    Ok(Figures { messages: queue.message_count(), consumers: queue.consumer_count() })
}

/// Takes a delay queue out of use: nothing reaches it any more, what is in it still expires into the retry queue.
pub async fn unbind_delay(link: &Link, topology: &Topology, queue: &str, ttl_ms: u64) -> Result<()> {
    let channel = link.channel().await?;
    let exchange = topology.names.delay_exchange();
    let unbind = channel.queue_unbind(queue.into(), exchange.into(), ttl_ms.to_string().into(), FieldTable::default());
    let unbound = within(link.settings().operation_timeout, "queue.unbind", unbind).await;
    close(link, &channel).await;
    match unbound {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Deletes a queue whatever is in it: if-empty is not available for quorum queues, so the caller must know.
pub async fn delete(link: &Link, queue: &str) -> Result<()> {
    let channel = link.channel().await?;
    let delete = channel.queue_delete(queue.into(), QueueDeleteOptions::default());
    within(link.settings().operation_timeout, "queue.delete", delete).await?;
    close(link, &channel).await;
    Ok(())
}

async fn declare_exchange(link: &Link, channel: &Channel, name: &str, passive: bool) -> Result<()> {
    let options = ExchangeDeclareOptions { passive, durable: true, ..ExchangeDeclareOptions::default() };
    let declare = channel.exchange_declare(name.into(), ExchangeKind::Direct, options, FieldTable::default());
    within(link.settings().operation_timeout, "exchange.declare", declare).await
}

async fn declare_queue(link: &Link, channel: &Channel, queue: &Queue) -> Result<()> {
    let mut arguments = FieldTable::default();
    for (name, value) in &queue.arguments {
        arguments.insert(ShortString::from(*name), wire_value(value));
    }
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    let declare = channel.queue_declare(queue.name.as_str().into(), options, arguments);
    within(link.settings().operation_timeout, "queue.declare", declare).await.map(drop)
}

async fn bind(link: &Link, channel: &Channel, queue: &Queue) -> Result<()> {
    let (name, exchange, key) = (queue.name.as_str(), queue.exchange.as_str(), queue.key.as_str());
    let options = QueueBindOptions::default();
    let bind = channel.queue_bind(name.into(), exchange.into(), key.into(), options, FieldTable::default());
    within(link.settings().operation_timeout, "queue.bind", bind).await
}

fn wire_value(value: &Argument) -> AMQPValue {
    match value {
        Argument::Text(text) => AMQPValue::LongString(text.as_str().into()),
        Argument::Number(number) => AMQPValue::LongLongInt(*number),
    }
}

async fn close(link: &Link, channel: &Channel) {
    if channel.status().connected() {
        let _ = within(link.settings().operation_timeout, "channel.close", channel.close(200, "done".into())).await;
    }
}

fn conflict(kind: &'static str, name: &str, error: BrokerError) -> DeclareError {
    match difference(kind, name, Err(error)) {
        Ok(Some(found)) => DeclareError::Conflict(found),
        Ok(None) => DeclareError::Broker(BrokerError::Unavailable("the broker gave no reason".into())),
        Err(error) => DeclareError::Broker(error),
    }
}

fn difference(kind: &'static str, name: &str, found: Result<()>) -> Result<Option<Difference>> {
    match found {
        Ok(()) => Ok(None),
        Err(BrokerError::Refused { code: 404, .. }) => Ok(Some(Difference::Missing { kind, name: name.to_owned() })),
        Err(BrokerError::Refused { code: 406, text }) => {
            Ok(Some(Difference::Conflict { kind, name: name.to_owned(), argument: argument_of(&text), text }))
        }
        Err(error) => Err(error),
    }
}

/// The broker says: inequivalent arg 'x-message-ttl' for queue ... : received ... but current is ...
fn argument_of(text: &str) -> String {
    text.split('\'').nth(1).filter(|_| text.contains("inequivalent arg")).unwrap_or("definition").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_names_the_queue_and_the_argument() {
        let refused = BrokerError::Refused {
            code: 406,
            text: "PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'q' in vhost '/': received".into(),
        };
        let found = difference("queue", "q", Err(refused)).unwrap().unwrap();
        let text = found.to_string();
        assert!(text.contains("queue 'q' exists with another x-message-ttl"), "{text}");
        assert_eq!(argument_of("something else"), "definition");
    }
}
