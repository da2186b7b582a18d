//! Event types and the filters that endpoints put on them.
//!
//! A type is dot-separated words of `[A-Za-z0-9_]`. A filter is an exact type, `prefix.*`, or `*`.

use thiserror::Error;

pub const MAX_LENGTH: usize = 128;

#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "event_type: '{0}' is not valid: use dot-separated words of letters, digits and '_' (at most {MAX_LENGTH} characters), for example order.created"
)]
pub struct InvalidType(String);

#[derive(Debug, Error, PartialEq, Eq)]
#[error(
    "event-types: '{0}' is not a filter: use an exact type (order.created), a prefix (order.*) or * for every type"
)]
pub struct InvalidFilter(String);

pub fn validate(event_type: &str) -> Result<(), InvalidType> {
    if is_valid(event_type) { Ok(()) } else { Err(InvalidType(event_type.chars().take(MAX_LENGTH + 1).collect())) }
}

fn is_valid(event_type: &str) -> bool {
    event_type.len() <= MAX_LENGTH && event_type.split('.').all(is_word)
}

fn is_word(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// Checks one filter and returns it as PostgreSQL stores it.
pub fn validate_filter(filter: &str) -> Result<(), InvalidFilter> {
    let ok = filter == "*" || is_valid(filter.strip_suffix(".*").unwrap_or(filter));
    if ok { Ok(()) } else { Err(InvalidFilter(filter.chars().take(MAX_LENGTH + 3).collect())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_dot_separated_words() {
        for good in ["a", "order.created", "a_b.C9.z"] {
            assert_eq!(validate(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "a.", ".a", "a..b", "a b", "a-b", "ä", "a.*", "*", &"x".repeat(129)] {
            assert!(validate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn filters_are_a_type_a_prefix_or_everything() {
        for good in ["*", "order.created", "order.*", "a.b.*"] {
            assert_eq!(validate_filter(good), Ok(()), "{good}");
        }
        for bad in ["", "**", "order*", "*.created", "order.*.x", ".*"] {
            assert!(validate_filter(bad).is_err(), "{bad}");
        }
    }
}
