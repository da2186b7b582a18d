//! Verifying a webhook: is it from somebody who holds the secret, unchanged, and recent?
//!
//! Verify the raw bytes of the body, before anything parses them, and answer 401 to what fails.
//!
//! ```
//! use posthaste::domain::signature::{self, Secret};
//! use posthaste::receiver::verify::{Headers, Verifier};
//!
//! let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
//! let signature = signature::header(&[secret.clone()], "evt_1", 1_700_000_000, b"{}");
//! let headers = Headers { id: Some("evt_1"), timestamp: Some("1700000000"), signature: Some(&signature) };
//! let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_010);
//!
//! let verified = Verifier::new(vec![secret]).verify(headers, b"{}", now)?;
//! assert_eq!(verified.id, "evt_1");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use crate::domain::signature::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, Secret};

/// How far the timestamp may be from the clock, either way, unless set otherwise.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);
/// Signatures that are looked at: a long header costs at most so many passes over the body for each secret.
pub const MAX_SIGNATURES: usize = 16;

/// The three headers of a webhook, as they came.
#[derive(Debug, Clone, Copy, Default)]
pub struct Headers<'a> {
    pub id: Option<&'a str>,
    pub timestamp: Option<&'a str>,
    pub signature: Option<&'a str>,
}

impl<'a> Headers<'a> {
    /// From whatever the HTTP library has: `get` looks up a header by its lower-case name.
    pub fn read(get: impl Fn(&'static str) -> Option<&'a str>) -> Headers<'a> {
        Headers { id: get(HEADER_ID), timestamp: get(HEADER_TIMESTAMP), signature: get(HEADER_SIGNATURE) }
    }
}

/// What is known once the signature is right. Handle each id once: webhooks are delivered at least once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verified<'a> {
    pub id: &'a str,
    /// When the sender signed, in seconds since 1970.
    pub timestamp: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum VerifyError {
    #[error("the header '{0}' is missing or empty")]
    MissingHeader(&'static str),
    #[error("the header '{HEADER_TIMESTAMP}' is not a whole number of seconds since 1970")]
    Timestamp,
    #[error("signed {0} s ago, which is too long; a replay, or this machine's clock is ahead")]
    TooOld(u64),
    #[error("signed {0} s in the future; the sender's clock is ahead, or this machine's is behind")]
    TooNew(u64),
    #[error("the header '{HEADER_SIGNATURE}' holds no signature of the scheme 'v1'")]
    NoSignature,
    #[error("no signature matches: another secret, or the body is not byte for byte what was signed")]
    Mismatch,
}

impl VerifyError {
    /// A fixed word for a metric's label.
    pub fn label(&self) -> &'static str {
        match self {
            VerifyError::MissingHeader(_) => "missing_header",
            VerifyError::Timestamp => "bad_timestamp",
            VerifyError::TooOld(_) => "too_old",
            VerifyError::TooNew(_) => "too_new",
            VerifyError::NoSignature => "no_signature",
            VerifyError::Mismatch => "mismatch",
        }
    }
}

/// Holds the secrets of one endpoint: during a rotation the old and the new one, in any order.
#[derive(Debug, Clone)]
pub struct Verifier {
    secrets: Vec<Secret>,
    tolerance: Duration,
}

impl Verifier {
    pub fn new(secrets: Vec<Secret>) -> Verifier {
        Verifier { secrets, tolerance: DEFAULT_TOLERANCE }
    }

    pub fn with_tolerance(self, tolerance: Duration) -> Verifier {
        Verifier { tolerance, ..self }
    }

    /// Signatures are compared in constant time; those of schemes that we do not know are passed over.
    pub fn verify<'a>(&self, headers: Headers<'a>, body: &[u8], now: SystemTime) -> Result<Verified<'a>, VerifyError> {
        let present = |value: Option<&'a str>, name| {
            value.filter(|value| !value.is_empty()).ok_or(VerifyError::MissingHeader(name))
        };
        let id = present(headers.id, HEADER_ID)?;
        let timestamp = present(headers.timestamp, HEADER_TIMESTAMP)?.parse().map_err(|_| VerifyError::Timestamp)?;
        let signatures = present(headers.signature, HEADER_SIGNATURE)?;
        self.check_age(timestamp, now)?;
        let mut known = signatures.split(' ').filter(|s| s.starts_with("v1,")).take(MAX_SIGNATURES).peekable();
        known.peek().ok_or(VerifyError::NoSignature)?;
        let matches = |signature| self.secrets.iter().any(|secret| secret.verifies(id, timestamp, body, signature));
        if known.any(matches) { Ok(Verified { id, timestamp }) } else { Err(VerifyError::Mismatch) }
    }

    fn check_age(&self, timestamp: i64, now: SystemTime) -> Result<(), VerifyError> {
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs() as i64);
        let away = now.abs_diff(timestamp);
        if away <= self.tolerance.as_secs() {
            Ok(())
        } else {
            Err(if timestamp < now { VerifyError::TooOld(away) } else { VerifyError::TooNew(away) })
        }
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
