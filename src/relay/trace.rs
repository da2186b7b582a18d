//! The spans of a relay: what it has claimed, and what the broker has confirmed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::broker::publisher::Target;
use crate::broker::topology::{DELIVER, Names, RETRY};
use crate::domain::ids;
use crate::domain::message::Message;
use crate::telemetry::spans::{self, Kind, Span};

/// From the event's creation, according to its id, to the commit of the claim: one span for each event that is delivered at all.
pub(super) fn claimed(messages: &[Message]) {
    let mut events = messages.chunk_by(|one, next| one.event_id == next.event_id);
    while let Some([message, others @ ..]) = events.next() {
        let Some(context) = spans::of(message.traceparent.as_deref(), message.event_id) else { continue };
        let created = UNIX_EPOCH + Duration::from_millis(ids::unix_ms(message.event_id).unsigned_abs());
        let claim = Span::of(&context, true, "claim outbox", Kind::Internal);
        let attributes = vec![
            ("messaging.message.id", message.event_id.to_string().into()),
            ("posthaste.tenant", (*message.tenant).into()),
            ("posthaste.event.type", (*message.event_type).into()),
            ("posthaste.deliveries", (others.len() + 1).into()),
        ];
        spans::record(Span { start: created, attributes, ..claim });
    }
}

/// From its publishing to the broker's confirm.
pub(super) fn sent(target: &Target, message: &Message, names: &Names, began: SystemTime) {
    let Some(context) = spans::of(message.traceparent.as_deref(), message.event_id) else { return };
    let (exchange, key) = match target {
        Target::Deliver => (names.work().to_owned(), DELIVER.to_owned()),
        Target::Retry => (names.work().to_owned(), RETRY.to_owned()),
        Target::Delay(ms) => (names.delay_exchange(), ms.to_string()),
        Target::Dead(_) => return,
    };
    let destination = format!("{exchange}:{key}");
    let send = Span::of(&context, false, format!("send {destination}"), Kind::Producer);
    let attributes = vec![
        ("messaging.system", "rabbitmq".into()),
        ("messaging.operation.name", "publish".into()),
        ("messaging.operation.type", "send".into()),
        ("messaging.destination.name", destination.into()),
        ("messaging.rabbitmq.destination.routing_key", key.into()),
        ("messaging.message.id", message.event_id.to_string().into()),
        ("messaging.message.body.size", message.body.len().into()),
        ("posthaste.endpoint.id", message.endpoint_id.to_string().into()),
        ("posthaste.attempt", message.attempt.into()),
    ];
    spans::record(Span { start: began, attributes, ..send });
}
