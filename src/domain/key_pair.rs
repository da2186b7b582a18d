//! Asymmetric signatures (`v1a`): ed25519 over the same content as `v1`. The sender keeps the private key (`whsk_`);
//! whoever holds the public one (`whpk_`) can verify, and cannot sign.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::signature::{Sign, prefix};

pub const PRIVATE_PREFIX: &str = "whsk_";
pub const PUBLIC_PREFIX: &str = "whpk_";
pub const SCHEME: &str = "v1a,";
pub const KEY_BYTES: usize = 32;
/// A private key followed by its public key, as some libraries write it.
const PAIR_BYTES: usize = 64;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyPairError {
    #[error("key: does not begin with '{0}', which the base64 of an ed25519 key follows")]
    Prefix(&'static str),
    #[error("key: is not base64 after '{0}'; use the standard alphabet with padding")]
    Base64(&'static str),
    #[error("key: holds {0} bytes; an ed25519 key has 32, or 64 when a private key is followed by its public key")]
    Length(usize),
    #[error("key: the public key after the private one is that of another")]
    Halves,
    #[error("key: no private key has this public key, or one under which signatures prove nothing")]
    Weak,
}

/// What signs. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct PrivateKey(SigningKey);

impl PrivateKey {
    pub fn parse(text: &str) -> Result<PrivateKey, KeyPairError> {
        PrivateKey::from_bytes(&decode(PRIVATE_PREFIX, text)?)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<PrivateKey, KeyPairError> {
        let wrong = |_| KeyPairError::Length(bytes.len());
        match bytes.len() {
            PAIR_BYTES => {
                let pair: &[u8; PAIR_BYTES] = bytes.try_into().map_err(wrong)?;
                SigningKey::from_keypair_bytes(pair).map(PrivateKey).map_err(|_| KeyPairError::Halves)
            }
            _ => Ok(PrivateKey(SigningKey::from_bytes(bytes.try_into().map_err(wrong)?))),
        }
    }

    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// The text to show, once, to whoever brings the key into another system.
    pub fn reveal(&self) -> String {
        format!("{PRIVATE_PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Sign for PrivateKey {
    fn sign(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        format!("{SCHEME}{}", STANDARD.encode(self.0.sign(&content(id, timestamp, body)).to_bytes()))
    }
}

impl std::fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PrivateKey([redacted])")
    }
}

/// What verifies. No secret.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    pub fn parse(text: &str) -> Result<PublicKey, KeyPairError> {
        PublicKey::from_bytes(&decode(PUBLIC_PREFIX, text)?)
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<PublicKey, KeyPairError> {
        let key: &[u8; KEY_BYTES] = bytes.try_into().map_err(|_| KeyPairError::Length(bytes.len()))?;
        let key = VerifyingKey::from_bytes(key).map_err(|_| KeyPairError::Weak)?;
        if key.is_weak() { Err(KeyPairError::Weak) } else { Ok(PublicKey(key)) }
    }

    /// Strictly: there is one way only to write the signature of a content.
    pub fn verifies(&self, id: &str, timestamp: i64, body: &[u8], signature: &str) -> bool {
        signature
            .strip_prefix(SCHEME)
            .and_then(|encoded| STANDARD.decode(encoded).ok())
            .and_then(|bytes| Signature::from_slice(&bytes).ok())
            .is_some_and(|signature| self.0.verify_strict(&content(id, timestamp, body), &signature).is_ok())
    }

    /// The member `x` of a JSON Web Key (RFC 8037).
    pub fn jwk_x(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0.as_bytes())
    }

    /// The key's name in a JSON Web Key Set: its thumbprint (RFC 7638).
    pub fn thumbprint(&self) -> String {
        let canonical = format!(r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#, self.jwk_x());
        URL_SAFE_NO_PAD.encode(Sha256::digest(canonical))
    }
}

impl std::fmt::Display for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{PUBLIC_PREFIX}{}", STANDARD.encode(self.0.as_bytes()))
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

fn decode(prefix: &'static str, text: &str) -> Result<Vec<u8>, KeyPairError> {
    let encoded = text.strip_prefix(prefix).ok_or(KeyPairError::Prefix(prefix))?;
    STANDARD.decode(encoded).map_err(|_| KeyPairError::Base64(prefix))
}

fn content(id: &str, timestamp: i64, body: &[u8]) -> Vec<u8> {
    [prefix(id, timestamp).as_bytes(), body].concat()
}

#[cfg(test)]
#[path = "key_pair_tests.rs"]
mod tests;
