//! Whether the broker takes messages. It says that it has an alarm only to who publishes, so one message is published that no
//! queue is bound for: the broker confirms it and drops it.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::options::BasicPublishOptions;

use super::connection::Link;
use super::topology::Names;
use super::{BrokerError, Result, within};
use crate::domain::doctor::broker::Probe;

/// No queue is bound with it.
const KEY: &str = "posthaste-doctor";
const PATIENCE: Duration = Duration::from_secs(3);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub async fn probe(link: &Link, names: &Names) -> Result<Probe> {
    let channel = link.confirming_channel().await?;
    let publish = channel.basic_publish(
        names.work().into(),
        KEY.into(),
        BasicPublishOptions::default(),
        b"",
        BasicProperties::default(),
    );
    let limit = PATIENCE.min(link.settings().operation_timeout);
    let confirmed = within(limit, "confirm of a probe", async { publish.await?.await });
    let answer = tokio::select! {
        answer = confirmed => answer,
        () = blocked(link) => return Ok(Probe::Blocked),
    };
    match answer {
        Ok(_) => Ok(Probe::Confirmed),
        Err(BrokerError::TimedOut { .. }) => Ok(Probe::Silent),
        Err(error) if error.is_access_refused() => Ok(Probe::Refused),
        Err(error) => Err(error),
    }
}

async fn blocked(link: &Link) {
    while !link.is_blocked() {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
