use proptest::prelude::*;

use super::*;
use crate::domain::message::Carried;

const PAYLOAD: &[u8] = b"{ \"a\":\t1 }";

fn message() -> Message {
    Message {
        event_id: Uuid::from_u128(1),
        endpoint_id: Uuid::from_u128(2),
        tenant: "acme".into(),
        event_type: "order.created".into(),
        body: Body::Here(Bytes::from_static(PAYLOAD)),
        attempt: 3,
        max_attempts: 5,
        base_attempts: 2,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        claimed_ms: Some(1_700_000_000_123),
    }
}

#[test]
fn a_message_survives_the_wire_and_is_readable_there() {
    let properties = properties(&message());
    assert_eq!(decode(&properties, Bytes::from_static(PAYLOAD)), Ok(message()));
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(properties.delivery_mode(), &Some(2));
    assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "posthaste");
    assert_eq!(dead_letter_attempts(&properties), None, "not a dead letter");
    assert_eq!(delivery_count(&properties), 0);
}

#[test]
fn a_dead_letter_tells_why_and_its_texts_are_cut() {
    let dead = DeadLetterHeaders {
        reason: "exhausted".into(),
        last_status_code: Some(500),
        last_error: Some("é".repeat(5_000)),
        attempts: 5,
        died_ms: Some(1_790_000_000_123),
    };
    let properties = dead_letter_properties(&message(), &dead);
    assert_eq!(dead_letter_attempts(&properties), Some(5));
    let headers = properties.headers().clone().unwrap();
    assert_eq!(text(&headers, "dead-reason").as_deref(), Some("exhausted"));
    assert_eq!(number(&headers, "last-status-code"), Some(500));
    assert_eq!(text(&headers, "died-at").as_deref(), Some("2026-09-21T14:13:20.123Z"));
    assert_eq!(text(&headers, "last-error").unwrap().chars().count(), 500);
}

#[test]
fn the_dead_letter_of_a_delivery_that_died_before_any_attempt_can_be_read_again() {
    for made in [0, 2] {
        let dead = Message { attempt: made, base_attempts: made, ..message() };
        let headers =
            DeadLetterHeaders { reason: "endpoint_removed".into(), attempts: made, ..DeadLetterHeaders::default() };
        let dead_letter = dead_letter_properties(&dead, &headers);
        assert_eq!(
            (decode(&dead_letter, Bytes::from_static(PAYLOAD)), dead_letter_attempts(&dead_letter)),
            (Ok(dead), Some(made))
        );
    }
}

#[test]
fn what_is_not_a_message_says_which_part_is_wrong() {
    let whole = properties(&message());
    let without = |name: &str| {
        let mut headers = whole.headers().clone().unwrap();
        headers = headers.inner().iter().filter(|(key, _)| key.as_str() != name).fold(
            FieldTable::default(),
            |mut table, (key, value)| {
                table.insert(key.clone(), value.clone());
                table
            },
        );
        decode(&whole.clone().with_headers(headers), Bytes::new())
    };
    assert_eq!(decode(&BasicProperties::default(), Bytes::new()), Err(Undecodable::MessageId));
    assert_eq!(without("endpoint-id"), Err(Undecodable::Header("endpoint-id")));
    assert_eq!(without("attempt"), Err(Undecodable::Header("attempt")));
    assert_eq!(without("tenant"), Err(Undecodable::Header("tenant")));
    assert!(without("traceparent").unwrap().traceparent.is_none());
    let dead_letter = undecodable_properties(&Undecodable::Type);
    assert_eq!(dead_letter_attempts(&dead_letter), Some(0));
    assert_eq!(text(dead_letter.headers().as_ref().unwrap(), "last-error").as_deref(), Some("type: is missing"));
}

#[test]
fn numbers_that_no_message_of_ours_has_are_refused_with_their_range() {
    let with = |attempt, base_attempts, max_attempts| {
        decode(&properties(&Message { attempt, base_attempts, max_attempts, ..message() }), Bytes::new())
    };
    assert!(with(1, 0, 1).is_ok() && with(i32::MAX, i32::MAX - 1, i32::MAX).is_ok());
    for (refused, name) in [
        (with(0, 0, 1), "attempt"),
        (with(3, 3, 1), "base-attempts"),
        (with(1, i32::MIN, 1), "base-attempts"),
        (with(1, 0, 0), "max-attempts"),
    ] {
        let text = refused.unwrap_err().to_string();
        assert!(text.starts_with(&format!("header {name}: is ")) && text.contains("must be"), "{text}");
    }
}

#[test]
fn a_reference_tells_the_size_of_its_payload_and_no_other_number() {
    let reference = Message { body: Body::InPostgres { bytes: 17 }, ..message() };
    let properties = properties(&reference);
    assert_eq!(number(properties.headers().as_ref().unwrap(), "payload-bytes"), Some(17));
    assert_eq!(decode(&properties, Bytes::new()), Ok(reference));
    let mut headers = properties.headers().clone().unwrap();
    headers.insert("payload-bytes".into(), AMQPValue::LongInt(-1));
    let refused = decode(&properties.with_headers(headers), Bytes::new()).unwrap_err().to_string();
    assert!(refused.starts_with("header payload-bytes: is -1"), "{refused}");
}

#[test]
fn a_marker_is_told_from_messages_and_keeps_its_time_to_the_microsecond() {
    let published_at = DateTime::from_timestamp_micros(1_700_000_000_123_456).unwrap();
    assert_eq!(marker(&marker_properties(published_at)), Some(published_at));
    assert_eq!(marker(&properties(&message())), None);
    assert_eq!(marker(&BasicProperties::default()), None);
}

proptest! {
    #[test]
    fn any_message_survives(
        body in prop::collection::vec(any::<u8>(), 0..200),
        tenant in ".{1,40}", since in 1i32..1000, base in 0i32..1000, max in 1i32..1000,
    ) {
        let (attempt, max_attempts) = (base + since, max);
        let bytes = Bytes::from(body);
        let sent = Message { tenant: tenant.into(), attempt, base_attempts: base, max_attempts, ..message() }.with(bytes.clone());
        prop_assert_eq!(decode(&properties(&sent), bytes.clone()), Ok(sent.clone()));
        // One that only refers to its payload says so, whatever came along.
        let reference = Message { body: sent.body.to_carry(Carried::Reference), ..sent };
        prop_assert_eq!(decode(&properties(&reference), bytes), Ok(reference));
    }
}
