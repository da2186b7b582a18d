//! Message <-> AMQP. The body is the payload, everything else a property or a header, readable as it is in the broker's UI.
//! A message that only refers to its payload has an empty body, and says so by the header `payload-bytes`.
//!
//! Headers are always built afresh from this whitelist. Copying a received `x-death` would make the broker's cycle
//! detection drop the message silently.

use std::borrow::Cow;

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use thiserror::Error;
use uuid::Uuid;

use crate::domain::message::{Body, DeadLetterHeaders, Message};

pub const APP_ID: &str = "posthaste";
/// The `type` of a marker. No event type has a hyphen, so no event looks like one.
const MARKER: &str = "posthaste-marker";
/// The header of a message that carries no payload: the size of the one that PostgreSQL has.
const PAYLOAD_BYTES: &str = "payload-bytes";
const PERSISTENT: u8 = 2;
/// Headers share one frame with the properties, so texts that others control are cut.
const MAX_ERROR_CHARS: usize = 500;

/// Why a received message is not one of ours. It never quotes the body.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Undecodable {
    #[error("message_id: is missing or not a UUID")]
    MessageId,
    #[error("header {0}: is missing or of the wrong type")]
    Header(&'static str),
    #[error("header {name}: is {number}, and must be {least} to {most}")]
    OutOfRange { name: &'static str, number: i32, least: i32, most: i32 },
    #[error("type: is missing")]
    Type,
}

pub fn properties(message: &Message) -> BasicProperties {
    base(message).with_headers(headers(message))
}

/// A dead letter to the dead-letter queue: the message and why it ended there.
pub fn dead_letter_properties(message: &Message, dead: &DeadLetterHeaders) -> BasicProperties {
    let mut headers = headers(message);
    put_dead_letter_headers(&mut headers, dead);
    base(message).with_headers(headers)
}

fn headers(message: &Message) -> FieldTable {
    let mut headers = FieldTable::default();
    put_text(&mut headers, "endpoint-id", message.endpoint_id.to_string());
    put_text(&mut headers, "tenant", &*message.tenant);
    put_number(&mut headers, "attempt", message.attempt);
    put_number(&mut headers, "max-attempts", message.max_attempts);
    put_number(&mut headers, "base-attempts", message.base_attempts);
    if let Some(traceparent) = &message.traceparent {
        put_text(&mut headers, "traceparent", &**traceparent);
    }
    if let Some(claimed_ms) = message.claimed_ms {
        headers.insert("claimed-at".into(), AMQPValue::LongLongInt(claimed_ms));
    }
    if let Body::InPostgres { bytes } = message.body {
        headers.insert(PAYLOAD_BYTES.into(), AMQPValue::LongLongInt(i64::from(bytes)));
    }
    headers
}

/// A dead letter for something that could not be read as a message: nothing of it is trusted but its bytes.
pub fn undecodable_properties(error: &Undecodable) -> BasicProperties {
    let mut headers = FieldTable::default();
    let dead = DeadLetterHeaders {
        reason: "undecodable".into(),
        last_error: Some(error.to_string()),
        ..DeadLetterHeaders::default()
    };
    put_dead_letter_headers(&mut headers, &dead);
    BasicProperties::default().with_app_id(APP_ID.into()).with_delivery_mode(PERSISTENT).with_headers(headers)
}

/// A marker: it carries nothing but the time of its publishing, by the database's clock, in microseconds.
pub fn marker_properties(published_at: DateTime<Utc>) -> BasicProperties {
    let mut headers = FieldTable::default();
    headers.insert(ShortString::from("published-at"), AMQPValue::LongLongInt(published_at.timestamp_micros()));
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_type(MARKER.into())
        .with_app_id(APP_ID.into())
        .with_headers(headers)
}

/// The publishing time of a marker; `None` for anything else.
pub fn marker(properties: &BasicProperties) -> Option<DateTime<Utc>> {
    if properties.kind().as_ref().is_none_or(|kind| kind.as_str() != MARKER) {
        return None;
    }
    DateTime::from_timestamp_micros(number(properties.headers().as_ref()?, "published-at")?)
}

fn base(message: &Message) -> BasicProperties {
    BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_message_id(message.event_id.to_string().into())
        .with_type((*message.event_type).into())
        .with_app_id(APP_ID.into())
}

fn put_dead_letter_headers(headers: &mut FieldTable, dead: &DeadLetterHeaders) {
    put_text(headers, "dead-reason", dead.reason.as_str());
    put_number(headers, "attempts", dead.attempts);
    if let Some(died_at) = dead.died_ms.and_then(DateTime::from_timestamp_millis) {
        // A text: UIs show an AMQP timestamp as a number.
        put_text(headers, "died-at", died_at.to_rfc3339_opts(SecondsFormat::Millis, true));
    }
    if let Some(code) = dead.last_status_code {
        put_number(headers, "last-status-code", code);
    }
    if let Some(error) = &dead.last_error {
        put_text(headers, "last-error", error.chars().take(MAX_ERROR_CHARS).collect::<String>());
    }
}

/// A text that is owned already is moved, not copied.
fn put_text(headers: &mut FieldTable, name: &'static str, value: impl Into<Vec<u8>>) {
    headers.insert(ShortString::from(name), AMQPValue::LongString(LongString::from(value)));
}

fn put_number(headers: &mut FieldTable, name: &'static str, value: i32) {
    headers.insert(ShortString::from(name), AMQPValue::LongInt(value));
}

pub fn decode(properties: &BasicProperties, body: Bytes) -> Result<Message, Undecodable> {
    let event_id = properties
        .message_id()
        .as_ref()
        .and_then(|id| Uuid::parse_str(id.as_str()).ok())
        .ok_or(Undecodable::MessageId)?;
    let empty = FieldTable::default();
    let headers = properties.headers().as_ref().unwrap_or(&empty);
    let endpoint_id = text(headers, "endpoint-id")
        .and_then(|id| Uuid::parse_str(&id).ok())
        .ok_or(Undecodable::Header("endpoint-id"))?;
    let required = |name| number(headers, name).and_then(|n| i32::try_from(n).ok()).ok_or(Undecodable::Header(name));
    let in_range = |name, least, most| required(name).and_then(|n| in_range(name, n, least, most));
    // A dead letter asks for nothing: its attempt is the last one that was made, and some die before the first.
    let first = i32::from(dead_letter_attempts(properties).is_none());
    let attempt = in_range("attempt", first, i32::MAX)?;
    let body = if headers.inner().contains_key(PAYLOAD_BYTES) {
        Body::InPostgres { bytes: in_range(PAYLOAD_BYTES, 0, i32::MAX)?.unsigned_abs() }
    } else {
        Body::Here(body)
    };
    Ok(Message {
        event_id,
        endpoint_id,
        tenant: text(headers, "tenant").ok_or(Undecodable::Header("tenant"))?.into(),
        event_type: properties.kind().as_ref().ok_or(Undecodable::Type)?.as_str().into(),
        body,
        attempt,
        max_attempts: in_range("max-attempts", 1, i32::MAX)?,
        base_attempts: in_range("base-attempts", 0, attempt - first)?,
        traceparent: text(headers, "traceparent").map(Into::into),
        claimed_ms: number(headers, "claimed-at"),
    })
}

/// Numbers that no message of ours has would overflow or mislead later on.
fn in_range(name: &'static str, number: i32, least: i32, most: i32) -> Result<i32, Undecodable> {
    let fits = (least..=most).contains(&number);
    fits.then_some(number).ok_or(Undecodable::OutOfRange { name, number, least, most })
}

/// The number of attempts that a dead letter was written for.
pub fn dead_letter_attempts(properties: &BasicProperties) -> Option<i32> {
    let headers = properties.headers().as_ref()?;
    // The broker's own dead letters (delivery limit) have no such header, and are not ours to keep.
    headers.inner().get("dead-reason")?;
    number(headers, "attempts").and_then(|n| i32::try_from(n).ok())
}

/// How often a quorum queue has handed the message out before.
pub fn delivery_count(properties: &BasicProperties) -> u32 {
    let headers = properties.headers().as_ref();
    let count = headers.and_then(|headers| number(headers, "x-delivery-count"));
    count.map_or(0, |count| count.clamp(0, i64::from(u32::MAX)) as u32)
}

fn text<'a>(headers: &'a FieldTable, name: &str) -> Option<Cow<'a, str>> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(value) => Some(String::from_utf8_lossy(value.as_bytes())),
        AMQPValue::ShortString(value) => Some(value.as_str().into()),
        _ => None,
    }
}

/// Brokers and UIs choose the width of a number freely.
fn number(headers: &FieldTable, name: &str) -> Option<i64> {
    match headers.inner().get(name)? {
        AMQPValue::ShortShortInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortShortUInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortInt(n) => Some(i64::from(*n)),
        AMQPValue::ShortUInt(n) => Some(i64::from(*n)),
        AMQPValue::LongInt(n) => Some(i64::from(*n)),
        AMQPValue::LongUInt(n) => Some(i64::from(*n)),
        AMQPValue::LongLongInt(n) => Some(*n),
        _ => None,
    }
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
