//! What travels through the broker: one delivery's next attempt, with the payload's exact bytes or a reference to them.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::ids::{self, DeliveryKey};

/// A first attempt that was claimed no longer ago is made without reading its row, which saves a statement. Batches of a
/// dead relay are adopted later than this.
const FRESH_MS: i64 = 1_000;

/// What messages carry of their payload. Each says itself what it has, so both kinds may be on their way at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carried {
    #[default]
    Payload,
    /// Its size. PostgreSQL has it.
    Reference,
}

/// The payload of a message.
#[derive(Clone, PartialEq, Eq)]
pub enum Body {
    Here(Bytes),
    /// Of about this many bytes; whoever makes the attempt reads it there.
    InPostgres {
        bytes: u32,
    },
}

impl Body {
    /// Of the payload, wherever it is.
    pub fn len(&self) -> usize {
        match self {
            Body::Here(bytes) => bytes.len(),
            Body::InPostgres { bytes } => *bytes as usize,
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What it takes of our memory.
    pub fn in_memory(&self) -> usize {
        self.here().map_or(0, Bytes::len)
    }

    pub fn here(&self) -> Option<&Bytes> {
        match self {
            Body::Here(bytes) => Some(bytes),
            Body::InPostgres { .. } => None,
        }
    }

    /// As it travels: what is not here cannot.
    pub fn to_carry(&self, carried: Carried) -> Body {
        match (self, carried) {
            (Body::Here(bytes), Carried::Reference) => {
                Body::InPostgres { bytes: bytes.len().try_into().unwrap_or(u32::MAX) }
            }
            _ => self.clone(),
        }
    }
}

/// Cheap to clone: the copies share the payload and the texts, also those for many endpoints.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    pub event_id: Uuid,
    pub endpoint_id: Uuid,
    pub tenant: Arc<str>,
    pub event_type: Arc<str>,
    pub body: Body,
    /// The attempt that this message asks for, counted from 1 over the delivery's whole life.
    pub attempt: i32,
    pub max_attempts: i32,
    pub base_attempts: i32,
    pub traceparent: Option<Arc<str>>,
    /// When its claim began, in Unix milliseconds; only on the copy that the claim itself publishes, and 0 on one that is
    /// published again. Every other copy of a first attempt (an adopted batch) comes later than `FRESH_MS` after that.
    pub claimed_ms: Option<i64>,
}

impl Message {
    pub fn key(&self) -> DeliveryKey {
        DeliveryKey { event_id: self.event_id, endpoint_id: self.endpoint_id }
    }

    /// The same delivery, asking for another attempt.
    pub fn asking_for(&self, attempt: i32) -> Message {
        Message { attempt, claimed_ms: None, ..self.clone() }
    }

    /// It is published again: the broker may have taken the copy before, and only its confirm was lost. Two workers may then
    /// have one each, so neither may count on being the only one.
    pub fn published_again(&mut self) {
        self.claimed_ms = Some(0);
    }

    /// The same with its payload.
    pub fn with(&self, payload: Bytes) -> Message {
        Message { body: Body::Here(payload), ..self.clone() }
    }

    /// Surely the only copy of its delivery: it was claimed a moment ago. Where the claim did not say when, the event's own
    /// age counts, which is never less.
    pub fn is_fresh(&self, now_ms: i64) -> bool {
        now_ms - self.claimed_ms.unwrap_or_else(|| ids::unix_ms(self.event_id)) <= FRESH_MS
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
pub struct DeadLetterHeaders {
    pub reason: String,
    pub last_status_code: Option<i32>,
    pub last_error: Option<String>,
    pub attempts: i32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_fresh_for_a_second_after_its_claim_however_old_its_event_is() {
        let event_id = ids::new_v7(1_000, [0; 10]);
        let adopted = Message {
            event_id,
            endpoint_id: Uuid::nil(),
            tenant: "acme".into(),
            event_type: "order.created".into(),
            body: Body::Here(Bytes::new()),
            attempt: 1,
            max_attempts: 5,
            base_attempts: 0,
            traceparent: None,
            claimed_ms: None,
        };
        assert!(adopted.is_fresh(2_000) && !adopted.is_fresh(2_001));
        let claimed = Message { claimed_ms: Some(60_000), ..adopted };
        assert!(claimed.is_fresh(59_000) && claimed.is_fresh(61_000) && !claimed.is_fresh(61_001));
        assert_eq!(claimed.asking_for(2).claimed_ms, None, "a successor is no claim's copy");
        let mut again = claimed;
        again.published_again();
        assert!(!again.is_fresh(60_000), "there may be two copies");
    }

    #[test]
    fn a_payload_that_is_here_may_stay_behind_and_one_that_is_not_cannot_come_along() {
        let here = Body::Here(Bytes::from_static(b"{ }"));
        let there = Body::InPostgres { bytes: 3 };
        assert!(here.to_carry(Carried::Payload) == here && here.to_carry(Carried::Reference) == there);
        assert!(there.to_carry(Carried::Payload) == there && there.to_carry(Carried::Reference) == there);
        assert_eq!((here.len(), there.len(), here.in_memory(), there.in_memory()), (3, 3, 3, 0));
    }
}
