//! Publishing for a command: it gives up in the end, and says so.

use crate::broker::published::PublishError;
use crate::broker::publisher::{Publisher, Target};
use crate::domain::message::Message;
use crate::domain::reconnect;

/// A broker that is down for longer than this many tries ends the command.
const COMMAND_TRIES: u32 = 8;

/// What is not published by the end of the command stays listed, and is adopted by a relay.
pub(super) async fn publish_due(publisher: &Publisher, messages: Vec<Message>) -> Result<(), PublishError> {
    let mut open = messages;
    let mut failures = 0;
    loop {
        let batch: Vec<(Target, &Message)> = open.iter().map(|message| (Target::Retry, message)).collect();
        let answers = publisher.publish(&batch).await;
        let mut failed = Vec::new();
        let mut last = None;
        for (message, answer) in open.into_iter().zip(answers) {
            if let Err(error) = answer {
                last = Some(error);
                failed.push(message);
            }
        }
        let Some(error) = last else { return Ok(()) };
        if failures >= COMMAND_TRIES {
            return Err(error);
        }
        tracing::warn!(%error, messages = failed.len(), failures, "publishing failed; trying again");
        tokio::time::sleep(reconnect::pause(failures, rand::random())).await;
        failures += 1;
        open = failed;
    }
}
