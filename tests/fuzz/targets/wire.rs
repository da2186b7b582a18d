//! What anybody may have put into our queues -> a message, a marker, or a refusal that names the part.
//!
//! The input: lines `name kind value`, an empty line, the body. The names `@message-id` and `@type` are properties, all
//! others headers; a kind is the letter of an AMQP type.
#![cfg_attr(fuzzing, no_main)]

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use posthaste::broker::wire;
use posthaste::domain::message::DeadLetterHeaders;

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| check(input));

pub fn check(input: &[u8]) {
    let empty_line = input.windows(2).position(|pair| pair == b"\n\n");
    let (head, body) = empty_line.map_or((input, &b""[..]), |at| (&input[..at], &input[at + 2..]));
    let properties = read(&String::from_utf8_lossy(head));
    let count = wire::delivery_count(&properties);
    assert!(count == 0 || properties.headers().is_some(), "counted without a header");
    let is_marker = wire::marker(&properties).is_some();
    match wire::decode(&properties, Bytes::copy_from_slice(body)) {
        Err(refused) => {
            let dead_letter = wire::undecodable_properties(&refused);
            assert_eq!(wire::dead_letter_attempts(&dead_letter), Some(0), "it is a dead letter like any other");
            assert!(wire::marker(&dead_letter).is_none());
        }
        Ok(message) => {
            let dead_letter = wire::dead_letter_attempts(&properties);
            assert!(message.attempt >= i32::from(dead_letter.is_none()), "no attempt before the first one");
            assert!((0..=message.attempt).contains(&message.base_attempts) && message.max_attempts >= 1, "{message:?}");
            assert!(message.body.here().is_none_or(|here| here == body), "the bytes of the body");
            let again = match dead_letter {
                Some(attempts) => wire::dead_letter_properties(
                    &message,
                    &DeadLetterHeaders { attempts, ..DeadLetterHeaders::default() },
                ),
                None => wire::properties(&message),
            };
            assert_eq!(wire::dead_letter_attempts(&again), dead_letter);
            assert_eq!(wire::delivery_count(&again), 0, "the broker's own headers are not copied");
            assert!(is_marker || wire::marker(&again).is_none());
            let carried = message.body.here().cloned().unwrap_or_default();
            assert_eq!(wire::decode(&again, carried).as_ref(), Ok(&message), "it survives the wire");
        }
    }
}

fn read(head: &str) -> BasicProperties {
    let (mut properties, mut headers) = (BasicProperties::default(), FieldTable::default());
    for line in head.lines() {
        let mut parts = line.splitn(3, ' ');
        let (Some(name), Some(kind), Some(text)) = (parts.next(), parts.next(), parts.next()) else { continue };
        // A short string holds at most 255 bytes, which the parser of the broker's frames sees to.
        match (name, ShortString::try_new(name), ShortString::try_new(text)) {
            ("@message-id", _, Ok(text)) => properties = properties.with_message_id(text),
            ("@type", _, Ok(text)) => properties = properties.with_type(text),
            (_, Ok(name), _) => {
                headers.insert(name, value(kind, text));
            }
            _ => {}
        }
    }
    if headers.inner().is_empty() { properties } else { properties.with_headers(headers) }
}

fn value(kind: &str, text: &str) -> AMQPValue {
    let whole: i64 = text.parse().unwrap_or_default();
    match kind {
        "t" => AMQPValue::Boolean(whole != 0),
        "b" => AMQPValue::ShortShortInt(whole as i8),
        "B" => AMQPValue::ShortShortUInt(whole as u8),
        "s" => AMQPValue::ShortInt(whole as i16),
        "u" => AMQPValue::ShortUInt(whole as u16),
        "I" => AMQPValue::LongInt(whole as i32),
        "i" => AMQPValue::LongUInt(whole as u32),
        "l" => AMQPValue::LongLongInt(whole),
        "T" => AMQPValue::Timestamp(whole as u64),
        "d" => AMQPValue::Double(text.parse().unwrap_or_default()),
        "V" => AMQPValue::Void,
        _ => AMQPValue::LongString(LongString::from(text)),
    }
}
