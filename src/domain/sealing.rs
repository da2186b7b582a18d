//! Encryption of secrets at rest: XChaCha20-Poly1305 under keys from the environment.
//!
//! A sealed value is the nonce followed by the ciphertext. The owner (the endpoint's id) is authenticated with it, so a
//! ciphertext copied to another row does not open. Beside it stands the id of the key, which is computed from the key.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use sha2::{Digest, Sha256};
use thiserror::Error;

pub const KEY_BYTES: usize = 32;
pub const NONCE_BYTES: usize = 24;
/// Of a key's id, in hexadecimal.
pub const ID_BYTES: usize = 8;

#[derive(Clone)]
pub struct Key {
    bytes: [u8; KEY_BYTES],
}

/// The keys that are configured: the first one is to seal, and all of them open.
#[derive(Debug, Clone)]
pub struct Keyring {
    first: Key,
    others: Vec<Key>,
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum SealError {
    #[error(
        "security.encryption_key: must be the base64 of {KEY_BYTES} bytes; make one with `posthaste keygen` and keep it outside the database"
    )]
    InvalidKey,
    #[error("security.encryption_key: no key that is configured (id {ours}) opens a value sealed with key id {theirs}")]
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

    /// The key's id, then what it has sealed.
    pub fn seal_blob(&self, nonce: [u8; NONCE_BYTES], owner: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        Ok([self.id().into_bytes(), self.seal(nonce, owner, plain)?].concat())
    }

    fn open(&self, owner: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_BYTES>().ok_or(SealError::Damaged)?;
        self.cipher()
            .decrypt(&XNonce::from(*nonce), Payload { msg: ciphertext, aad: owner })
            .map_err(|_| SealError::Damaged)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new(&self.bytes.into())
    }
}

impl Keyring {
    pub fn new(first: Key, others: Vec<Key>) -> Keyring {
        Keyring { first, others }
    }

    /// The one that a rotation seals with.
    pub fn first(&self) -> &Key {
        &self.first
    }

    pub fn by_id(&self, key_id: &str) -> Option<&Key> {
        self.keys().find(|key| key.id() == key_id)
    }

    pub fn ids(&self) -> Vec<String> {
        self.keys().map(Key::id).collect()
    }

    pub fn open(&self, key_id: &str, owner: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let wrong =
            || SealError::WrongKey { ours: self.ids().join(", "), theirs: key_id.chars().take(2 * ID_BYTES).collect() };
        self.by_id(key_id).ok_or_else(wrong)?.open(owner, sealed)
    }

    /// Opens what `Key::seal_blob` made.
    pub fn open_blob(&self, owner: &[u8], blob: &[u8]) -> Result<Vec<u8>, SealError> {
        let (key_id, sealed) = blob.split_at_checked(ID_BYTES).ok_or(SealError::Damaged)?;
        self.open(&String::from_utf8_lossy(key_id), owner, sealed)
    }

    fn keys(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.others)
    }
}

impl From<Key> for Keyring {
    fn from(key: Key) -> Keyring {
        Keyring::new(key, Vec::new())
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
        let keys = Keyring::from(key.clone());
        assert_eq!(keys.open(&key.id(), b"owner", &sealed).unwrap(), b"secret");
        assert_eq!(keys.open(&key.id(), b"other", &sealed), Err(SealError::Damaged));
        let mut changed = sealed.clone();
        *changed.last_mut().unwrap() ^= 1;
        assert_eq!(keys.open(&key.id(), b"owner", &changed), Err(SealError::Damaged));
        assert_eq!(keys.open(&key.id(), b"owner", &sealed[..10]), Err(SealError::Damaged));
        let other = Keyring::from(Key::from_bytes([2; 32]));
        assert!(matches!(other.open(&key.id(), b"owner", &sealed), Err(SealError::WrongKey { .. })));
    }

    #[test]
    fn any_key_of_a_ring_opens_what_it_has_sealed() {
        let [old, new, unknown] = [1, 2, 3].map(|byte| Key::from_bytes([byte; 32]));
        let ring = Keyring::new(new.clone(), vec![old.clone()]);
        for key in [&old, &new] {
            let blob = key.seal_blob([9; 24], b"owner", b"secret").unwrap();
            assert_eq!(ring.open_blob(b"owner", &blob).unwrap(), b"secret");
        }
        let blob = unknown.seal_blob([9; 24], b"owner", b"secret").unwrap();
        let ours = format!("{}, {}", new.id(), old.id());
        assert_eq!(ring.open_blob(b"owner", &blob), Err(SealError::WrongKey { ours, theirs: unknown.id() }));
        assert_eq!(ring.open_blob(b"owner", b"short"), Err(SealError::Damaged));
        assert_eq!((ring.first().id(), ring.by_id(&unknown.id()).is_none()), (new.id(), true));
        assert_eq!(new.id().len(), ID_BYTES);
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
