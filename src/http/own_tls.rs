//! What an endpoint may have of its own for TLS: a certificate that we show it, and the authorities that signed its.
//!
//! Both are kept as PEM, sealed like the signing secrets. With authorities of its own, an endpoint's certificate must come
//! from one of them: those of the system are not asked.

use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use rustls::RootCertStore;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// The longest file, in bytes.
pub const MAX_PEM_BYTES: usize = 65_536;
const MAX_CHAIN: usize = 8;
const MAX_AUTHORITIES: usize = 32;

/// Each text begins with the option that the file came with. None repeats anything of the file.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum OwnTlsError {
    #[error("{0}: has more than {MAX_PEM_BYTES} bytes; give a PEM file with the certificates alone")]
    TooLong(&'static str),
    #[error("{0}: holds no certificate that can be read; give a PEM file, with BEGIN CERTIFICATE in it")]
    NoCertificate(&'static str),
    #[error("{0}: holds {1} certificates; use at most {2}")]
    TooMany(&'static str, usize, usize),
    #[error(
        "client-key: holds no private key that can be read; give it as PEM without a passphrase (PKCS#8, PKCS#1 or SEC1)"
    )]
    NoKey,
    #[error(
        "client-key: does not belong to the first certificate of client-certificate; put the certificate of this key first"
    )]
    OtherKey,
    #[error("client-certificate: has expired on {0}; give a valid one")]
    Expired(String),
}

/// A client certificate with its key, as it is kept, and what may be shown of it.
pub struct Identity {
    pub pem: Vec<u8>,
    pub sha256: String,
    pub expires_at: DateTime<Utc>,
}

/// Certificate authorities, as they are kept, and what may be shown of them.
pub struct Authorities {
    pub pem: Vec<u8>,
    pub sha256: Vec<String>,
}

/// The certificate comes first, then those that lead to an authority; all of it and the key become one text.
pub fn identity(certificate: &[u8], key: &[u8], now: DateTime<Utc>) -> Result<Identity, OwnTlsError> {
    let chain = certificates("client-certificate", certificate, MAX_CHAIN)?;
    if key.len() > MAX_PEM_BYTES {
        return Err(OwnTlsError::TooLong("client-key"));
    }
    let pem = [certificate, b"\n", key].concat();
    certified_key(&pem)?;
    let (_, first) =
        x509_parser::parse_x509_certificate(&chain[0]).map_err(|_| OwnTlsError::NoCertificate("client-certificate"))?;
    let expires_at =
        DateTime::from_timestamp(first.validity().not_after.timestamp(), 0).unwrap_or(DateTime::<Utc>::MAX_UTC);
    if expires_at <= now {
        return Err(OwnTlsError::Expired(expires_at.format("%F %T UTC").to_string()));
    }
    Ok(Identity { pem, sha256: fingerprint(&chain[0]), expires_at })
}

pub fn authorities(pem: &[u8]) -> Result<Authorities, OwnTlsError> {
    let found = certificates("ca", pem, MAX_AUTHORITIES)?;
    roots(pem)?;
    Ok(Authorities { pem: pem.to_vec(), sha256: found.iter().map(|found| fingerprint(found)).collect() })
}

/// Ready to connect with. Cheap to clone.
#[derive(Clone)]
pub struct OwnTls {
    pub(super) identity: Option<Arc<dyn ResolvesClientCert>>,
    pub(super) roots: Option<Arc<RootCertStore>>,
    /// Of everything that it was made from.
    pub(super) digest: [u8; 32],
}

impl OwnTls {
    /// Of what was kept, `None` if there is nothing.
    pub fn open(identity: Option<&[u8]>, authorities: Option<&[u8]>) -> Result<Option<OwnTls>, OwnTlsError> {
        if identity.is_none() && authorities.is_none() {
            return Ok(None);
        }
        let mut digest = Sha256::new();
        for part in [identity, authorities].into_iter().flatten() {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Ok(Some(OwnTls {
            identity: identity.map(|pem| certified_key(pem).map(resolver)).transpose()?,
            roots: authorities.map(|pem| roots(pem).map(Arc::new)).transpose()?,
            digest: digest.finalize().into(),
        }))
    }
}

impl fmt::Debug for OwnTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OwnTls([redacted])")
    }
}

fn resolver(key: CertifiedKey) -> Arc<dyn ResolvesClientCert> {
    Arc::new(SingleCertAndKey::from(key))
}

fn certificates(name: &'static str, pem: &[u8], most: usize) -> Result<Vec<CertificateDer<'static>>, OwnTlsError> {
    if pem.len() > MAX_PEM_BYTES {
        return Err(OwnTlsError::TooLong(name));
    }
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.len() > most => Err(OwnTlsError::TooMany(name, found.len(), most)),
        Ok(found) if !found.is_empty() => Ok(found),
        _ => Err(OwnTlsError::NoCertificate(name)),
    }
}

fn certified_key(pem: &[u8]) -> Result<CertifiedKey, OwnTlsError> {
    // The limit on the length was kept when it was stored; certificate and key together may exceed it.
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|_| OwnTlsError::NoCertificate("client-certificate"))?;
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|_| OwnTlsError::NoKey)?;
    CertifiedKey::from_der(chain, key, &ring::default_provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => OwnTlsError::OtherKey,
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => {
            OwnTlsError::NoCertificate("client-certificate")
        }
        _ => OwnTlsError::NoKey,
    })
}

fn roots(pem: &[u8]) -> Result<RootCertStore, OwnTlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("ca", pem, MAX_AUTHORITIES)? {
        roots.add(certificate).map_err(|_| OwnTlsError::NoCertificate("ca"))?;
    }
    Ok(roots)
}

fn fingerprint(certificate: &[u8]) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "own_tls_tests.rs"]
mod tests;
