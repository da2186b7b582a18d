//! The broker alone: persistent messages to a quorum queue, each confirmed, and a consumer that only acknowledges.

use std::time::{Duration, Instant};

use futures_util::stream::{FuturesUnordered, StreamExt};
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel};

use super::Part;
use super::consumer::Consumer;
use crate::bench::work::{KIB, payload};
use crate::isolation::stack::Stack;
use crate::kit::broker::connect;
use crate::wait_for;

const QUEUE: &str = "bench.floor";
/// Messages without a confirm yet.
const WINDOW: usize = 500;
const PERSISTENT: u8 = 2;
const PATIENCE: Duration = Duration::from_secs(300);

pub async fn measure(stack: &Stack, messages: usize) -> Result<Part, String> {
    let url = &stack.binary.amqp_url;
    let connection = connect(url).await.map_err(|error| error.to_string())?;
    let channel = connection.create_channel().await.map_err(|error| error.to_string())?;
    declare(&channel).await.map_err(|error| error.to_string())?;
    let consumer = Consumer::start(url, QUEUE).await?;
    publish(&channel, messages / 10).await.map_err(|error| error.to_string())?;
    let before = messages / 10;
    wait_for("the first messages", PATIENCE, async || (consumer.count() >= before).then_some(())).await?;
    let (began, cpu) = (Instant::now(), stack.cpu());
    publish(&channel, messages).await.map_err(|error| error.to_string())?;
    wait_for("all messages", PATIENCE, async || (consumer.count() - before >= messages).then_some(())).await?;
    let used = (stack.cpu() - cpu).scaled(1e6 / messages as f64);
    let seconds = consumer.last().saturating_duration_since(began).as_secs_f64();
    Ok(Part { server_us: used.rabbitmq, client_us: used.program, per_second: messages as f64 / seconds })
}

async fn declare(channel: &Channel) -> lapin::Result<()> {
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(QUEUE.into(), durable, quorum).await.map(drop)
}

async fn publish(channel: &Channel, messages: usize) -> lapin::Result<()> {
    let (body, options) = (payload(KIB), BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() });
    let mut unconfirmed = FuturesUnordered::new();
    for _ in 0..messages {
        let properties = BasicProperties::default().with_delivery_mode(PERSISTENT);
        unconfirmed.push(channel.basic_publish("".into(), QUEUE.into(), options, body.as_bytes(), properties).await?);
        if unconfirmed.len() >= WINDOW {
            unconfirmed.next().await.transpose()?;
        }
    }
    while let Some(confirmed) = unconfirmed.next().await {
        confirmed?;
    }
    Ok(())
}
