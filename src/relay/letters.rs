//! Letters for deliveries that ended in PostgreSQL, without a message in hand.

use crate::broker::publisher::{Publisher, Target};
use crate::domain::message::Message;
use crate::store::deliveries::Snapshot;

/// Best effort: the rows are right whatever becomes of the letters, and the next sweep writes what is missing here.
pub async fn write(publisher: &Publisher, ended: Vec<(Message, Snapshot)>) {
    let letters: Vec<(Target, Message)> = ended
        .into_iter()
        .map(|(message, row)| (Target::Dead(row.obituary()), message.asking_for(row.row.attempts)))
        .collect();
    let batch: Vec<(Target, &Message)> = letters.iter().map(|(target, message)| (target.clone(), message)).collect();
    let answers = publisher.publish(&batch).await;
    for ((_, message), answer) in letters.iter().zip(answers) {
        if let Err(error) = answer {
            tracing::warn!(event_id = %message.event_id, endpoint_id = %message.endpoint_id, %error,
                "a dead letter was not written; the next requeue or reconcile writes it");
        }
    }
}
