//! TLS as we speak it: certificates are checked against the system's authorities, or against an endpoint's own.

use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;

/// HTTP/2 where the server speaks it.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

#[derive(Debug, Error)]
pub enum SetupError {
    #[error("no certificate authority was found: {0}")]
    NoAuthorities(String),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

/// The authorities that the system trusts. Some that cannot be read do no harm; none at all does.
pub(super) fn system_authorities() -> Result<Arc<RootCertStore>, SetupError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added > 0 {
        return Ok(Arc::new(roots));
    }
    let error = found.errors.first().map_or_else(|| "the system has none".to_owned(), ToString::to_string);
    Err(SetupError::NoAuthorities(error))
}

/// For requests to endpoints.
pub(super) fn for_endpoints(
    roots: Arc<RootCertStore>,
    identity: Option<Arc<dyn ResolvesClientCert>>,
) -> Result<Arc<ClientConfig>, SetupError> {
    let mut config = config(roots, identity)?;
    config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).into();
    Ok(Arc::new(config))
}

/// For the way to a proxy, which gets one CONNECT on each connection.
pub(super) fn for_the_proxy(roots: Arc<RootCertStore>) -> Result<Arc<ClientConfig>, SetupError> {
    Ok(Arc::new(config(roots, None)?))
}

fn config(
    roots: Arc<RootCertStore>,
    identity: Option<Arc<dyn ResolvesClientCert>>,
) -> Result<ClientConfig, SetupError> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(match identity {
        Some(identity) => builder.with_client_cert_resolver(identity),
        None => builder.with_no_client_auth(),
    })
}
