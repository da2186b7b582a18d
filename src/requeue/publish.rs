//! Publishing for a command: it gives up in the end, and says so.

use crate::broker::published::PublishError;
use crate::broker::publisher::{Publisher, Target};
use crate::broker::unconfirmed::Unconfirmed;
use crate::domain::message::Message;

/// A broker that is down for longer than this many tries ends the command.
const COMMAND_TRIES: u32 = 8;

/// What is not published by the end of the command stays listed, and is adopted by a relay.
pub(super) async fn publish_due(publisher: &Publisher, messages: Vec<Message>) -> Result<(), PublishError> {
    let mut open = Unconfirmed::to(&Target::Retry, messages);
    while let Some(error) = open.offer(publisher, |_| ()).await {
        if open.failures() >= COMMAND_TRIES {
            return Err(error);
        }
        open.pause(&error).await;
    }
    Ok(())
}
