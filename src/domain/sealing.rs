//! Encryption of secrets at rest: XChaCha20-Poly1305 under a key from the environment.
//!
//! A sealed value is the nonce followed by the ciphertext. The owner (the endpoint's id) is authenticated with it, so a
//! ciphertext copied to another row does not open.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use thiserror::Error;

pub const KEY_BYTES: usize = 32;
pub const NONCE_BYTES: usize = 24;

#[derive(Clone)]
pub struct Key {
    bytes: [u8; KEY_BYTES],
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum SealError {
    #[error(
        "security.encryption_key: must be the base64 of {KEY_BYTES} bytes; make one with `posthaste keygen` and keep it outside the database"
    )]
    InvalidKey,
    #[error("security.encryption_key: this key (id {ours}) cannot open a value sealed with key id {theirs}")]
    WrongKey { ours: String, theirs: String },
    #[error("a sealed value is damaged")]
    Damaged,
}

impl Key {
    pub fn from_bytes(bytes: [u8; KEY_BYTES]) -> Key {
        Key { bytes }
    }

    pub fn parse(text: &str) -> Result<Key, SealError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| SealError::InvalidKey)?;
        Ok(Key { bytes: bytes.try_into().map_err(|_| SealError::InvalidKey)? })
    }

    /// A short name of the key that reveals nothing of it: stored beside what it sealed.
    pub fn id(&self) -> String {
        let digest = Sha256::new().chain_update(b"posthaste key id").chain_update(self.bytes).finalize();
        digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// `nonce` must be random and never used twice.
    pub fn seal(&self, nonce: [u8; NONCE_BYTES], owner: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let sealed = self
            .cipher()
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: owner })
            .map_err(|_| SealError::Damaged)?;
        Ok([&nonce[..], &sealed].concat())
    }

    pub fn open(&self, key_id: &str, owner: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        if key_id != self.id() {
            return Err(SealError::WrongKey { ours: self.id(), theirs: key_id.chars().take(16).collect() });
        }
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Damaged)?;
        self.cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg: ciphertext, aad: owner })
            .map_err(|_| SealError::Damaged)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.bytes.into())
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Key(id {})", self.id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_with_its_key_for_its_owner_and_unchanged() {
        let key = Key::from_bytes([1; 32]);
        let sealed = key.seal([9; 24], b"owner", b"secret").unwrap();
        assert_eq!(key.open(&key.id(), b"owner", &sealed).unwrap(), b"secret");
        assert_eq!(key.open(&key.id(), b"other", &sealed), Err(SealError::Damaged));
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(key.open(&key.id(), b"owner", &changed), Err(SealError::Damaged));
        assert_eq!(key.open(&key.id(), b"owner", &sealed[..10]), Err(SealError::Damaged));
        let other = Key::from_bytes([2; 32]);
        assert!(matches!(other.open(&key.id(), b"owner", &sealed), Err(SealError::WrongKey { .. })));
    }

    #[test]
    fn keys_are_thirty_two_bytes_of_base64_and_never_printed() {
        let text = STANDARD.encode([5; 32]);
        assert_eq!(Key::parse(&format!(" {text}\n")).unwrap().id(), Key::from_bytes([5; 32]).id());
        assert_eq!(Key::parse("AAAA").unwrap_err(), SealError::InvalidKey);
        assert_eq!(Key::parse("not base64").unwrap_err(), SealError::InvalidKey);
        assert!(!format!("{:?}", Key::from_bytes([5; 32])).contains(&text));
    }
}
