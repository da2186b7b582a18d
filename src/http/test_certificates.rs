//! Certificates from an authority that exists for one test, and a server that shows one and says what it was shown.

use std::convert::Infallible;
use std::sync::Arc;

use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use sha2::{Digest, Sha256};
use tokio_rustls::TlsAcceptor;

use super::own_tls::{self, OwnTls};
use super::test_server::Server;

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

/// A certificate and its key, as PEM.
pub(super) struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// For these names and addresses, valid for very long.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.issue_until(names, 4000)
    }

    pub fn issue_until(&self, names: &[&str], year: i32) -> Issued {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// Of an endpoint that trusts this authority alone.
    pub fn trusted(&self) -> OwnTls {
        OwnTls::open(None, Some(self.pem.as_bytes())).unwrap().unwrap()
    }

    /// The same with a client certificate.
    pub fn trusted_with(&self, identity: &Issued) -> OwnTls {
        let pem = format!("{}{}", identity.certificate, identity.key);
        OwnTls::open(Some(pem.as_bytes()), Some(self.pem.as_bytes())).unwrap().unwrap()
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        roots
    }
}

impl Issued {
    pub fn fingerprint(&self) -> String {
        own_tls::authorities(self.certificate.as_bytes()).unwrap().sha256.remove(0)
    }
}

/// How a server speaks TLS.
pub(super) struct Tls<'a> {
    pub shows: &'a Issued,
    /// Clients must show a certificate of this authority.
    pub asks: Option<&'a Authority>,
    /// None speaks HTTP/1.1 alone.
    pub protocols: &'a [&'a str],
}

pub(super) fn acceptor(tls: &Tls<'_>) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().unwrap();
    let builder = match tls.asks {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(authority.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let chain = CertificateDer::pem_slice_iter(tls.shows.certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(tls.shows.key.as_bytes()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = tls.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    TlsAcceptor::from(Arc::new(config))
}

/// Answers every request with the version of HTTP, and the fingerprint of the client's certificate.
pub(super) async fn server(tls: &Tls<'_>) -> Server {
    let acceptor = acceptor(tls);
    Server::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let client = stream.get_ref().1.peer_certificates().map(|chain| fingerprint(&chain[0]));
            let answer = hyper::service::service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
                let text = format!("{:?} {}", request.version(), client.as_deref().unwrap_or("nobody"));
                async move { Ok::<_, Infallible>(hyper::Response::new(axum::body::Body::from(text))) }
            });
            let io = TokioIo::new(stream);
            // An error is the client's affair.
            let _ = if is_h2 {
                hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, answer).await
            } else {
                hyper::server::conn::http1::Builder::new().serve_connection(io, answer).await
            };
        }
    })
    .await
}

fn fingerprint(certificate: &[u8]) -> String {
    Sha256::digest(certificate).iter().map(|byte| format!("{byte:02x}")).collect()
}
