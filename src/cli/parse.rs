//! Parsers of single values. Each message says what is wrong and what to write instead; clap adds the flag's name.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use crate::config::parse_duration;
use crate::domain::dead_reason::DeadReason;
use crate::domain::delivery::Status;
use crate::domain::event_type;
use crate::domain::outcome::ErrorClass;
use crate::domain::signature::Secret;

/// A value that `none` takes back to the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting<T> {
    Default,
    To(T),
}

pub fn setting<T>(text: &str, parse: impl Fn(&str) -> Result<T, String>) -> Result<Setting<T>, String> {
    match text {
        "none" => Ok(Setting::Default),
        _ => parse(text).map(Setting::To).map_err(|problem| format!("{problem}, or none for the default")),
    }
}

/// A custom header of an endpoint. Its value may be a credential, so it is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: String,
}

impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: [redacted]", self.name)
    }
}

impl FromStr for Header {
    type Err = String;

    fn from_str(text: &str) -> Result<Header, String> {
        let (name, value) = text.split_once(':').ok_or("has no ':'; write it like 'X-Api-Key: value'")?;
        let (name, value) = (name.trim(), value.trim());
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        if name.is_empty() || name.len() > 128 || !name.bytes().all(is_token) {
            return Err("the name is not one for a header; use 1 to 128 letters, digits and '-'".into());
        }
        if is_reserved(&name.to_ascii_lowercase()) {
            return Err("the header is set by Posthaste itself; choose another name".into());
        }
        if value.len() > 4096 || !value.bytes().all(|b| b == b'\t' || (b' '..=b'~').contains(&b)) {
            return Err("the value is not one for a header; use at most 4096 printable ASCII characters".into());
        }
        Ok(Header { name: name.to_owned(), value: value.to_owned() })
    }
}

/// What the protocol needs for itself: an endpoint that could change these would break its own signatures or framing.
fn is_reserved(name: &str) -> bool {
    const NAMES: [&str; 8] =
        ["connection", "content-length", "content-type", "host", "te", "transfer-encoding", "upgrade", "user-agent"];
    NAMES.contains(&name) || name.starts_with("webhook-") || name.starts_with("posthaste-")
}

/// Where the payload of `event emit` is. What stands on the command line is shown by its length.
#[derive(Clone, PartialEq, Eq)]
pub enum Payload {
    Inline(String),
    File(PathBuf),
    Stdin,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Payload::Inline(text) => write!(f, "Inline({} bytes)", text.len()),
            Payload::File(path) => write!(f, "File({})", path.display()),
            Payload::Stdin => f.write_str("Stdin"),
        }
    }
}

impl From<&str> for Payload {
    fn from(text: &str) -> Payload {
        match text.strip_prefix('@') {
            Some(path) => Payload::File(path.into()),
            None if text == "-" => Payload::Stdin,
            None => Payload::Inline(text.to_owned()),
        }
    }
}

/// An RFC 3339 time, or how long ago.
pub fn moment(text: &str) -> Result<DateTime<Utc>, String> {
    moment_at(text, Utc::now())
}

pub fn moment_at(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.to_utc());
    }
    let ago = parse_duration(text).ok().and_then(|ago| TimeDelta::from_std(ago).ok());
    ago.and_then(|ago| now.checked_sub_signed(ago)).ok_or_else(|| {
        "is neither a time nor a duration; write it like 2026-05-01T12:00:00Z, or 2h for two hours ago".into()
    })
}

pub fn timeout(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_millis(1), Duration::from_secs(600))
}

/// Between two looks.
pub fn interval(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_secs(1), Duration::from_secs(3600))
}

pub fn grace(text: &str) -> Result<Duration, String> {
    within(text, Duration::ZERO, Duration::from_secs(30 * 86_400))
}

fn within(text: &str, low: Duration, high: Duration) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if (low..=high).contains(&duration) {
        return Ok(duration);
    }
    Err(format!("use {} to {}", humantime::format_duration(low), humantime::format_duration(high)))
}

pub fn count(text: &str, low: i32, high: i32) -> Result<i32, String> {
    let number = text.parse().ok().filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| format!("use a whole number from {low} to {high}"))
}

/// A number that may have decimals.
pub fn figure(text: &str, low: f64, high: f64) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| format!("use a number from {low} to {high}, without separators"))
}

/// Rows of a list.
pub fn limit(text: &str) -> Result<i64, String> {
    count(text, 1, 100_000).map(i64::from)
}

pub fn max_in_flight(text: &str) -> Result<i32, String> {
    count(text, 1, 10_000)
}

pub fn rate(text: &str) -> Result<i32, String> {
    count(text, 1, 100_000)
}

pub fn policy_name(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    let valid = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
    valid.then(|| text.to_owned()).ok_or_else(|| "use the name of a policy below [retry.policies]".into())
}

/// What needs no quoting in SQL or in a shell, and leaves room for the role behind it.
pub fn role_prefix(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let begins = text.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    let valid = begins && text.len() <= 40 && text.bytes().all(allowed);
    valid.then(|| text.to_owned()).ok_or_else(|| "use 1 to 40 of a-z, 0-9 and _, and no digit first".into())
}

pub fn vhost(text: &str) -> Result<String, String> {
    let valid = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
    valid.then(|| text.to_owned()).ok_or_else(|| "use the name of a virtual host, 1 to 255 bytes".into())
}

pub fn tenant(text: &str) -> Result<String, String> {
    let valid = (1..=128).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    valid.then(|| text.to_owned()).ok_or_else(|| "use 1 to 128 characters without control characters".into())
}

pub fn event_type(text: &str) -> Result<String, String> {
    event_type::validate(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

/// A part of an event type may be left open, anywhere. Returns it as SQL's LIKE writes it.
pub fn type_pattern(text: &str) -> Result<String, String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'*');
    if !(1..=event_type::MAX_LENGTH).contains(&text.len()) || !text.bytes().all(allowed) {
        return Err("use letters, digits, '_', '.' and * for anything, like 'order.*' or '*.failed'".into());
    }
    Ok(text.replace('_', "\\_").replace('*', "%"))
}

pub fn status(text: &str) -> Result<Status, String> {
    Status::parse(text).ok_or_else(|| {
        let known: Vec<&str> = Status::ALL.iter().map(|status| status.as_str()).collect();
        format!("use one of {}", known.join(", "))
    })
}

/// Of an event or an endpoint.
pub fn id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| "is not an id; ids are UUIDs, like 0198c0de-0000-7000-8000-000000000001".into())
}

/// One of a list; a space after the comma is no part of it.
pub fn event_filter(text: &str) -> Result<String, String> {
    let text = text.trim();
    event_type::validate_filter(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

pub fn secret(text: &str) -> Result<Secret, String> {
    Secret::parse(text).map_err(|error| error.to_string())
}

pub fn dead_reason(text: &str) -> Result<DeadReason, String> {
    DeadReason::parse(text).ok_or_else(|| {
        let known: Vec<&str> = DeadReason::ALL.iter().map(|reason| reason.as_str()).collect();
        format!("use one of {}", known.join(", "))
    })
}

pub fn status_code(text: &str) -> Result<i32, String> {
    count(text, 100, 599)
}

pub fn error_class(text: &str) -> Result<ErrorClass, String> {
    ErrorClass::parse(text).ok_or_else(|| {
        let known = ErrorClass::ALL.map(ErrorClass::as_str).join(", ");
        format!("use one of {known}; --status-code is for what was answered")
    })
}

/// A delivery that is sent again has ended.
pub fn finished(text: &str) -> Result<Status, String> {
    let known = [Status::Delivered, Status::Dead];
    let found = known.into_iter().find(|status| status.as_str() == text);
    found.ok_or_else(|| "use delivered or dead; leave it out for both".into())
}
