//! The payload of a message: it came with it, or PostgreSQL has it.

use bytes::Bytes;

use super::coalesce::PayloadReader;
use super::database::Stopping;
use super::refused::NotMade;
use crate::domain::message::{Body, Message};

pub struct Payloads(pub PayloadReader);

impl Payloads {
    /// To be asked before the gate: a place at the endpoint must not wait for the database.
    pub async fn of(&self, message: &Message) -> Result<Bytes, NotMade> {
        match &message.body {
            Body::Here(payload) => Ok(payload.clone()),
            Body::InPostgres { .. } => self.read(message).await?.ok_or(NotMade::NoPayload),
        }
    }

    async fn read(&self, message: &Message) -> Result<Option<Bytes>, Stopping> {
        self.0.ask(message.event_id).await
    }
}
