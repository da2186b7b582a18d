//! What a receiver verifies with: the secret that it shares with the sender (`v1`), or the sender's public key (`v1a`).

use thiserror::Error;

use crate::domain::key_pair::{self, KeyPairError, PRIVATE_PREFIX, PUBLIC_PREFIX, PublicKey};
use crate::domain::signature::{Secret, SecretError};

#[derive(Debug, Clone)]
pub enum Key {
    Secret(Secret),
    Public(PublicKey),
}

#[derive(Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    #[error("there is no key; give a 'whsec_' secret or a 'whpk_' public key")]
    None,
    #[error("a '{PRIVATE_PREFIX}' key is the sender's alone; give its public key, which begins with '{PUBLIC_PREFIX}'")]
    Private,
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error(transparent)]
    Public(#[from] KeyPairError),
}

impl Key {
    pub fn parse(text: &str) -> Result<Key, KeyError> {
        if text.starts_with(PRIVATE_PREFIX) {
            Err(KeyError::Private)
        } else if text.starts_with(PUBLIC_PREFIX) {
            Ok(Key::Public(PublicKey::parse(text)?))
        } else {
            Ok(Key::Secret(Secret::parse(text)?))
        }
    }

    /// How the signatures begin that it can verify.
    pub fn scheme(&self) -> &'static str {
        match self {
            Key::Secret(_) => "v1,",
            Key::Public(_) => key_pair::SCHEME,
        }
    }

    pub fn verifies(&self, id: &str, timestamp: i64, body: &[u8], signature: &str) -> bool {
        match self {
            Key::Secret(secret) => secret.verifies(id, timestamp, body, signature),
            Key::Public(key) => key.verifies(id, timestamp, body, signature),
        }
    }
}
