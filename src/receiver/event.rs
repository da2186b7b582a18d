//! A webhook whose signature was right, as it is handed on.

use bytes::Bytes;

use super::verify::{Headers, Verified};

/// The event's type as Posthaste sends it. It is not signed: route by it, decide nothing of weight by it.
pub const HEADER_EVENT_TYPE: &str = "posthaste-event-type";
/// Says of an answer that the event had been handled before.
pub const HEADER_DUPLICATE: &str = "webhook-duplicate";

#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    /// The same on every attempt.
    pub id: String,
    pub event_type: Option<String>,
    /// When this attempt was signed, in seconds since 1970.
    pub timestamp: i64,
    /// The header as it came.
    pub signature: String,
    /// The bytes that were signed.
    pub body: Bytes,
}

impl Event {
    pub fn new(verified: Verified<'_>, headers: Headers<'_>, event_type: Option<&str>, body: Bytes) -> Event {
        Event {
            id: verified.id.to_owned(),
            event_type: event_type.map(str::to_owned),
            timestamp: verified.timestamp,
            signature: headers.signature.unwrap_or_default().to_owned(),
            body,
        }
    }
}

/// Without the payload, which has no place in a log.
impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (id, event_type, bytes) = (&self.id, &self.event_type, self.body.len());
        write!(f, "Event({id:?}, {event_type:?}, {bytes} bytes)")
    }
}
