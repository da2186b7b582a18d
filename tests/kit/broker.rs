//! Asking the broker beside the processes under test.

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties, Result};

pub async fn connect(url: &str) -> Result<Connection> {
    Connection::connect(url, ConnectionProperties::default().with_connection_name("posthaste tests".into())).await
}

/// Messages that are ready in a queue. One that is not there is an error, which ends the channel.
pub async fn depth(channel: &Channel, queue: &str) -> Result<u32> {
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    Ok(channel.queue_declare(queue.into(), passive, FieldTable::default()).await?.message_count())
}

/// With all that is in it; that many messages were ready.
pub async fn delete(channel: &Channel, queue: &str) -> Result<u32> {
    channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await
}
