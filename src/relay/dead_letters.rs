//! Dead letters for deliveries that ended in PostgreSQL, without a message in hand.

use crate::broker::published::PublishError;
use crate::broker::publisher::{Publisher, Target};
use crate::domain::message::Message;
use crate::store::deliveries::Snapshot;

/// Best effort: the rows are right whatever becomes of the dead letters, and the next sweep writes what is missing here.
pub async fn write(publisher: &Publisher, ended: Vec<(Message, Snapshot)>) {
    let dead_letters: Vec<(Target, Message)> = ended
        .into_iter()
        .map(|(message, row)| (Target::Dead(row.dead_letter_headers()), message.asking_for(row.row.attempts)))
        .collect();
    let batch: Vec<(Target, &Message)> =
        dead_letters.iter().map(|(target, message)| (target.clone(), message)).collect();
    let answers = publisher.publish(&batch).await;
    for ((_, message), answer) in dead_letters.iter().zip(answers) {
        if let Err(error) = answer {
            tracing::warn!(event_id = %message.event_id, endpoint_id = %message.endpoint_id, %error,
                "a dead letter was not written; the next requeue or reconcile writes it");
        }
    }
}

/// A dead letter that the broker does not take, by its place, and why.
pub(super) type Refused = (usize, PublishError);

/// Writes all, pipelined. Returns those that the broker refuses; any other failure ends it, and a later sweep does the rest.
///
/// Over a dead letter that it refuses the broker closes the channel, and with it those beside it fail. So what has failed is
/// tried once more, each alone.
pub async fn write_all(
    publisher: &Publisher,
    dead_letters: &[(Target, &Message)],
) -> Result<Vec<Refused>, PublishError> {
    let mut refused = Vec::new();
    for (place, answer) in publisher.publish(dead_letters).await.into_iter().enumerate() {
        if answer.is_ok() {
            continue;
        }
        match publisher.publish(&dead_letters[place..=place]).await.pop() {
            Some(Err(error @ PublishError::Refused(_))) => refused.push((place, error)),
            Some(Err(error)) => return Err(error),
            Some(Ok(())) | None => {}
        }
    }
    Ok(refused)
}
