//! What travels through the broker: one delivery's next attempt, with the payload's exact bytes.

use bytes::Bytes;
use uuid::Uuid;

use super::ids::DeliveryKey;

#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub event_id: Uuid,
    pub endpoint_id: Uuid,
    pub tenant: String,
    pub event_type: String,
    pub body: Bytes,
    /// The attempt that this message asks for, counted from 1 over the delivery's whole life.
    pub attempt: i32,
    pub max_attempts: i32,
    pub base_attempts: i32,
    pub traceparent: Option<String>,
}

impl Message {
    pub fn key(&self) -> DeliveryKey {
        DeliveryKey { event_id: self.event_id, endpoint_id: self.endpoint_id }
    }

    /// The same delivery, asking for another attempt.
    pub fn asking_for(&self, attempt: i32) -> Message {
        Message { attempt, ..self.clone() }
    }
}

/// Payloads must not reach a log, so the body is shown by its length.
impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Message")
            .field("event_id", &self.event_id)
            .field("endpoint_id", &self.endpoint_id)
            .field("attempt", &self.attempt)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What operators read on a dead letter in the broker's UI.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Obituary {
    pub reason: String,
    pub last_status_code: Option<i32>,
    pub last_error: Option<String>,
    pub attempts: i32,
}
