//! Standard Webhooks signatures (<https://www.standardwebhooks.com>, specification 1.0.0).
//!
//! The signed content is `{webhook-id}.{webhook-timestamp}.{body}`, over the exact bytes sent. A `v1` signature is
//! HMAC-SHA256 under a `whsec_` secret, base64; `key_pair` has `v1a`. All live keys sign, separated by spaces, so a rotation
//! needs no flag day.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

pub const HEADER_ID: &str = "webhook-id";
pub const HEADER_TIMESTAMP: &str = "webhook-timestamp";
pub const HEADER_SIGNATURE: &str = "webhook-signature";
pub const PREFIX: &str = "whsec_";
/// The specification's bounds for the key, in bytes.
pub const KEY_BYTES: std::ops::RangeInclusive<usize> = 24..=64;

/// What begins the signed content; the body follows.
pub(super) fn prefix(id: &str, timestamp: i64) -> String {
    format!("{id}.{timestamp}.")
}

/// Whatever makes signatures.
pub trait Sign {
    /// With its scheme in front: `v1,...`.
    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String;
}

/// The value of `webhook-signature`: one signature for each live key.
pub fn header<K: Sign>(keys: &[K], id: &str, timestamp: i64, body: &[u8]) -> String {
    let signatures: Vec<String> = keys.iter().map(|key| key.sign(id, timestamp, body)).collect();
    signatures.join(" ")
}

/// A symmetric signing secret. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

#[derive(Debug, Error, PartialEq, Eq)]
pub enum SecretError {
    #[error("secret: does not begin with '{PREFIX}'; a secret is '{PREFIX}' and the base64 of 24 to 64 bytes")]
    Prefix,
    #[error("secret: is not base64 after '{PREFIX}'; use the standard alphabet with padding")]
    Base64,
    #[error("secret: holds {0} bytes; use 24 to 64")]
    Length(usize),
}

impl Secret {
    pub fn parse(text: &str) -> Result<Secret, SecretError> {
        let encoded = text.strip_prefix(PREFIX).ok_or(SecretError::Prefix)?;
        Secret::from_bytes(STANDARD.decode(encoded).map_err(|_| SecretError::Base64)?)
    }

    pub fn from_bytes(key: Vec<u8>) -> Result<Secret, SecretError> {
        if KEY_BYTES.contains(&key.len()) { Ok(Secret(key)) } else { Err(SecretError::Length(key.len())) }
    }

    /// The text to show the customer, once.
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn mac(&self, id: &str, timestamp: i64, body: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(prefix(id, timestamp).as_bytes());
        mac.update(body);
        mac
    }

    /// Compares in constant time.
    pub fn verifies(&self, id: &str, timestamp: i64, body: &[u8], signature: &str) -> bool {
        signature
            .strip_prefix("v1,")
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .is_some_and(|tag| self.mac(id, timestamp, body).verify_slice(&tag).is_ok())
    }
}

impl Sign for Secret {
    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        format!("v1,{}", STANDARD.encode(self.mac(id, timestamp, body).finalize().into_bytes()))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret([redacted])")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret() -> Secret {
        Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()
    }

    #[test]
    fn the_example_of_the_specification_signs_as_published() {
        let signed = header(&[secret()], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_live_secret_signs_and_each_signature_verifies_alone() {
        let other = Secret::from_bytes(vec![7; 32]).unwrap();
        let both = header(&[secret(), other.clone()], "id", 1, b"body");
        let parts: Vec<&str> = both.split(' ').collect();
        assert!(secret().verifies("id", 1, b"body", parts[0]) && other.verifies("id", 1, b"body", parts[1]));
        assert!(!secret().verifies("id", 2, b"body", parts[0]), "another time");
        assert!(!secret().verifies("id", 1, b"bodx", parts[0]), "another body");
        assert!(!secret().verifies("id", 1, b"body", "v1a,AAAA") && !secret().verifies("id", 1, b"body", "v1,*"));
    }

    #[test]
    fn malformed_secrets_say_what_is_wrong_without_repeating_the_secret() {
        assert_eq!(Secret::parse("nope"), Err(SecretError::Prefix));
        assert_eq!(Secret::parse("whsec_***"), Err(SecretError::Base64));
        assert_eq!(Secret::parse("whsec_AAAA"), Err(SecretError::Length(3)));
        assert_eq!(format!("{:?}", secret()), "Secret([redacted])");
        assert_eq!(Secret::parse(&secret().reveal()), Ok(secret()));
    }
}
