//! Event types and filters as anybody may write them.
#![cfg_attr(fuzzing, no_main)]

use posthaste::domain::event_type::{MAX_LENGTH, validate, validate_filter};

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| check(input));

pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let is_type = validate(&text).is_ok();
    if is_type {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
        assert!(text.bytes().all(plain), "nothing that SQL, AMQP or HTTP would have to escape: {text}");
        assert!((1..=MAX_LENGTH).contains(&text.len()) && !text.contains("..") && !text.starts_with('.'));
        assert!(validate_filter(&text).is_ok(), "a type is a filter for itself: {text}");
        assert!(validate_filter(&format!("{text}.*")).is_ok());
    }
    match validate_filter(&text) {
        Ok(()) => {
            let prefix = text.strip_suffix(".*").unwrap_or(&text);
            assert!(text == "*" || validate(prefix).is_ok(), "{text}");
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("event-types: ") && message.len() < 1_000, "{message}");
        }
    }
    if let Err(error) = validate(&text) {
        let message = error.to_string();
        assert!(message.starts_with("event_type: ") && message.len() < 1_000, "{message}");
    }
}
