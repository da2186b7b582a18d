//! Secrets and headers on their way into the database, sealed with a key that the workers have too.

use uuid::Uuid;

use super::super::compose;
use super::super::failure::Failure;
use crate::cli::Header;
use crate::config::Config;
use crate::domain::key_pair::{KEY_BYTES, PrivateKey};
use crate::domain::sealing::{Key, NONCE_BYTES};
use crate::domain::signature::Secret;
use crate::store::{Db, encryption_keys};

/// The key that seals in this database, if it is configured. What another one seals, no worker can open: the endpoint would stand
/// still. Where nothing is sealed yet, the first key that is configured; with `is_new` it becomes the database's.
pub async fn key(config: &Config, db: &Db, is_new: bool) -> Result<Key, Failure> {
    let keys = compose::keys(config)?;
    let Some(theirs) = encryption_keys::current(db).await? else { return Ok(keys.first().clone()) };
    if is_new {
        encryption_keys::seal_with(db, &keys.first().id()).await?;
        return Ok(keys.first().clone());
    }
    keys.by_id(&theirs).cloned().ok_or_else(|| {
        Failure::Usage(format!(
            "security.encryption_key: no key that is configured (id {}) is the one of this database, which has the id {theirs}; \
             set the key that the workers have, or add --new-key if they have this one from now on",
            keys.ids().join(", ")
        ))
    })
}

pub fn new_secret() -> Result<Secret, Failure> {
    Secret::from_bytes(rand::random::<[u8; 32]>().to_vec()).map_err(|error| Failure::Failed(error.to_string()))
}

pub fn new_key_pair() -> Result<PrivateKey, Failure> {
    PrivateKey::from_bytes(&rand::random::<[u8; KEY_BYTES]>()).map_err(|error| Failure::Failed(error.to_string()))
}

pub fn seal(key: &Key, owner: Uuid, plain: &[u8]) -> Result<Vec<u8>, Failure> {
    let nonce: [u8; NONCE_BYTES] = rand::random();
    key.seal(nonce, owner.as_bytes(), plain).map_err(|error| Failure::Failed(error.to_string()))
}

/// The key's id, then what it has sealed.
pub fn blob(key: &Key, owner: Uuid, plain: &[u8]) -> Result<Vec<u8>, Failure> {
    key.seal_blob(rand::random(), owner.as_bytes(), plain).map_err(|error| Failure::Failed(error.to_string()))
}

/// A JSON list of names and values.
pub fn sealed_headers(key: &Key, owner: Uuid, headers: &[Header]) -> Result<Option<Vec<u8>>, Failure> {
    if headers.is_empty() {
        return Ok(None);
    }
    let pairs: Vec<(&str, &str)> = headers.iter().map(|h| (h.name.as_str(), h.value.as_str())).collect();
    let plain = serde_json::to_vec(&pairs).map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(Some(blob(key, owner, &plain)?))
}
