//! What the broker has lost, published again by a command.

use super::error::RequeueError;
use super::publish::publish_due;
use crate::broker::publisher::Publisher;
use crate::store::reconcile::{self, Proofs};
use crate::store::{Db, relay_batches};

/// Deliveries of one statement.
const BATCH: i64 = 500;

/// Everything that is lost now. Returns how much was published again.
pub async fn republish(db: &Db, publisher: &Publisher, relay: i64, proofs: Proofs) -> Result<u64, RequeueError> {
    let mut republished = 0;
    loop {
        let batch = reconcile::republish(db, relay, proofs, BATCH).await?;
        let Some(id) = batch.id else { return Ok(republished) };
        republished += batch.messages.len() as u64;
        publish_due(publisher, batch.messages).await?;
        relay_batches::unlist(db, &[id]).await?;
    }
}
