//! Verifying a webhook: is it from somebody who holds the secret, unchanged, and recent?
//!
//! Verify the raw bytes of the body, before anything parses them, and answer what fails with [`VerifyError::status`].
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

use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use thiserror::Error;

use super::key::{Key, KeyError};
use crate::domain::key_pair::PublicKey;
use crate::domain::signature::{HEADER_ID, HEADER_SIGNATURE, HEADER_TIMESTAMP, Secret};

/// How far the timestamp may be from the clock, either way, unless set otherwise.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);
/// Signatures that are looked at: a long header costs at most so many passes over the body for each key.
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
    #[error("the header '{HEADER_SIGNATURE}' holds no signature of a scheme that there is a key for")]
    NoSignature,
    #[error("no signature matches: another key, or the body is not byte for byte what was signed")]
    Mismatch,
}

/// What a service does about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// No signed webhook: somebody else's request, a proxy that drops headers, a scheme that was not agreed on.
    Malformed,
    /// Signed at another time: a replay, or one of the clocks is wrong. When many come, look at the clocks.
    Stale,
    /// Signed by nobody that we know, or changed on the way. When many come, look at the keys and at what parses bodies.
    Forged,
}

impl VerifyError {
    pub fn kind(&self) -> Kind {
        match self {
            VerifyError::MissingHeader(_) | VerifyError::Timestamp | VerifyError::NoSignature => Kind::Malformed,
            VerifyError::TooOld(_) | VerifyError::TooNew(_) => Kind::Stale,
            VerifyError::Mismatch => Kind::Forged,
        }
    }

    /// The status code to answer with.
    pub fn status(&self) -> u16 {
        match self.kind() {
            Kind::Malformed => 400,
            Kind::Stale | Kind::Forged => 401,
        }
    }

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

/// Holds the keys of one endpoint: during a rotation the old and the new one, in any order. Any of them may have signed, so
/// leave the shared secret out where only `v1a` is to count.
#[derive(Debug, Clone)]
pub struct Verifier {
    keys: Vec<Key>,
    tolerance: Duration,
}

/// From `whsec_` and `whpk_` keys, separated by spaces or commas: as they stand in an environment variable.
impl FromStr for Verifier {
    type Err = KeyError;

    fn from_str(keys: &str) -> Result<Verifier, KeyError> {
        let texts = keys.split([' ', ',', '\n']).filter(|text| !text.is_empty());
        let keys: Vec<Key> = texts.map(Key::parse).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(KeyError::None) } else { Ok(Verifier::with_keys(keys)) }
    }
}

impl Verifier {
    pub fn new(secrets: Vec<Secret>) -> Verifier {
        Verifier::with_keys(secrets.into_iter().map(Key::Secret).collect())
    }

    /// Of either scheme.
    pub fn with_keys(keys: Vec<Key>) -> Verifier {
        Verifier { keys, tolerance: DEFAULT_TOLERANCE }
    }

    /// More keys, of the scheme `v1a`.
    pub fn and_public_keys(mut self, keys: Vec<PublicKey>) -> Verifier {
        self.keys.extend(keys.into_iter().map(Key::Public));
        self
    }

    pub fn with_tolerance(self, tolerance: Duration) -> Verifier {
        Verifier { tolerance, ..self }
    }

    pub fn tolerance(&self) -> Duration {
        self.tolerance
    }

    /// Signatures are compared in constant time; those of schemes that we have no key for are passed over.
    pub fn verify<'a>(&self, headers: Headers<'a>, body: &[u8], now: SystemTime) -> Result<Verified<'a>, VerifyError> {
        let present = |value: Option<&'a str>, name| {
            value.filter(|value| !value.is_empty()).ok_or(VerifyError::MissingHeader(name))
        };
        let id = present(headers.id, HEADER_ID)?;
        let timestamp = present(headers.timestamp, HEADER_TIMESTAMP)?.parse().map_err(|_| VerifyError::Timestamp)?;
        let signatures = present(headers.signature, HEADER_SIGNATURE)?;
        self.check_age(timestamp, now)?;
        let is_ours = |signature: &&str| self.keys.iter().any(|key| signature.starts_with(key.scheme()));
        let mut known = signatures.split(' ').filter(is_ours).take(MAX_SIGNATURES).peekable();
        known.peek().ok_or(VerifyError::NoSignature)?;
        let matches = |signature| self.keys.iter().any(|key| key.verifies(id, timestamp, body, signature));
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
