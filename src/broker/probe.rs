//! Whether the broker takes messages. It says that it has an alarm only to who publishes, so messages are published that no
//! queue is bound for: the broker confirms them and drops them.

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
/// With an alarm the broker stops reading only after the first message, which it may still confirm.
const MESSAGES: usize = 2;
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub async fn probe(link: &Link, names: &Names) -> Result<Probe> {
    let channel = link.confirming_channel().await?;
    let limit = PATIENCE.min(link.settings().operation_timeout);
    let confirmed = within(limit, "confirm of a probe", async {
        for _ in 0..MESSAGES {
            let options = BasicPublishOptions::default();
            let publish =
                channel.basic_publish(names.work().into(), KEY.into(), options, b"", BasicProperties::default());
            publish.await?.await?;
        }
        Ok(())
    });
    let answer = tokio::select! {
        answer = confirmed => answer,
        () = blocked(link) => return Ok(Probe::Blocked),
    };
    match answer {
        Ok(()) => Ok(Probe::Confirmed),
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
