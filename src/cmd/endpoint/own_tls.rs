//! Certificates of an endpoint's own: read from files, checked, and sealed.

use std::io::Read;
use std::path::{Path, PathBuf};

use chrono::Utc;
use uuid::Uuid;

use super::super::failure::Failure;
use super::sealing::blob;
use crate::domain::sealing::Key;
use crate::http::own_tls::{self, Authorities, Identity, MAX_PEM_BYTES};
use crate::store::endpoints;

/// What the command line brings, checked. `None` leaves a part as it is.
pub struct OwnTls {
    identity: Option<Identity>,
    authorities: Option<Authorities>,
}

impl OwnTls {
    /// Nothing has been connected to yet: a mistake in a file is one of usage.
    pub fn read(
        certificate: Option<&PathBuf>,
        key: Option<&PathBuf>,
        authorities: Option<&PathBuf>,
    ) -> Result<OwnTls, Failure> {
        let usage = |error: own_tls::OwnTlsError| Failure::Usage(error.to_string());
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (file("client-certificate", certificate)?, file("client-key", key)?);
                Some(own_tls::identity(&certificate, &key, Utc::now()).map_err(usage)?)
            }
            _ => None,
        };
        let authorities = match authorities {
            Some(path) => Some(own_tls::authorities(&file("ca", path)?).map_err(usage)?),
            None => None,
        };
        Ok(OwnTls { identity, authorities })
    }

    pub fn is_empty(&self) -> bool {
        self.identity.is_none() && self.authorities.is_none()
    }

    pub fn sealed_identity(&self, key: &Key, owner: Uuid) -> Result<Option<endpoints::ClientIdentity>, Failure> {
        let Some(Identity { pem, sha256, expires_at }) = &self.identity else { return Ok(None) };
        let (sealed, sha256) = (blob(key, owner, pem)?, sha256.clone());
        Ok(Some(endpoints::ClientIdentity { sealed, sha256, expires_at: *expires_at }))
    }

    pub fn sealed_authorities(&self, key: &Key, owner: Uuid) -> Result<Option<endpoints::Authorities>, Failure> {
        let Some(Authorities { pem, sha256 }) = &self.authorities else { return Ok(None) };
        Ok(Some(endpoints::Authorities { sealed: blob(key, owner, pem)?, sha256: sha256.clone() }))
    }
}

/// At most one byte more than is allowed, which is then refused.
fn file(option: &str, path: &Path) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(MAX_PEM_BYTES as u64 + 1).read_to_end(&mut bytes));
    match read {
        Ok(_) => Ok(bytes),
        Err(error) => {
            Err(Failure::Usage(format!("{option}: {} cannot be read ({error}); check the path", path.display())))
        }
    }
}
