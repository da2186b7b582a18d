//! The payload of a message: it came with it, or PostgreSQL has it.

use bytes::Bytes;

use super::super::database::Stopping;
use super::{Processing, Stage};
use crate::domain::message::Body;

impl Processing {
    /// Before the gate: a place at the endpoint must not wait for the database. `has_row`: the delivery's row was read.
    pub(super) async fn payload(&self, has_row: bool) -> Result<Stage<Bytes>, Stopping> {
        let payload = match &self.message.body {
            Body::Here(payload) => Some(payload.clone()),
            Body::InPostgres { .. } => self.context.payloads.ask(self.message.event_id).await?,
        };
        match payload {
            Some(payload) => Ok(Stage::Go(payload)),
            // A crash of the database may have undone the claim, and the event is in the outbox again: the row tells.
            None if !has_row => Ok(Stage::Again),
            None => {
                let key = self.message.key();
                tracing::error!(event_id = %key.event_id, endpoint_id = %key.endpoint_id,
                    "the event of a delivery is gone, and with it the payload; held, no attempt spent");
                self.hold_for_our_fault().await
            }
        }
    }
}
