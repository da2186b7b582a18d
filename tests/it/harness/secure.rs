//! A receiver that speaks TLS and HTTP/2 only, and may ask for a client certificate.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::RootCertStore;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::authority::{Authority, Issued};
use super::{PATIENCE, in_a_thread};
use crate::kit::connections::{accept, listener};

/// Certificates and keys where commands can read them.
pub struct PemFiles(TempDir);

impl PemFiles {
    pub fn new() -> PemFiles {
        PemFiles(tempfile::tempdir().expect("a directory for certificates"))
    }

    /// The path of a file with this text.
    pub fn put(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a path that is text").to_owned()
    }
}

pub fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Secured {
    /// What the client has shown.
    pub client: Option<CertificateDer<'static>>,
}

pub struct SecureReceiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    // The thread ends when this is dropped.
    _stop: watch::Sender<()>,
}

struct Shared {
    acceptor: TlsAcceptor,
    delay: Duration,
    requests: watch::Sender<Vec<Secured>>,
    open: AtomicUsize,
    peak: AtomicUsize,
    connections: AtomicUsize,
}

impl SecureReceiver {
    /// Shows this certificate, and answers 200 after the delay.
    pub fn start(shows: &Issued, asks: Option<&Authority>, delay: Duration) -> SecureReceiver {
        let listener = listener();
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            acceptor: acceptor(shows, asks),
            delay,
            requests: watch::channel(Vec::new()).0,
            open: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
        });
        let (stop, mut stopped) = watch::channel(());
        let serving = shared.clone();
        in_a_thread(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            tokio::select! {
                () = accept(listener, |stream| serving.clone().serve(stream)) => {}
                // An error: the receiver was dropped.
                _ = stopped.changed() => {}
            }
        });
        SecureReceiver { address, shared, _stop: stop }
    }

    pub fn url(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.address.port())
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn count(&self) -> usize {
        self.shared.requests.borrow().len()
    }

    /// The most requests at the same time.
    pub fn peak(&self) -> usize {
        self.shared.peak.load(Ordering::SeqCst)
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Waits for at least this many requests, and returns all there are.
    pub async fn wait_for(&self, count: usize) -> Vec<Secured> {
        let mut requests = self.shared.requests.subscribe();
        let waiting = requests.wait_for(|requests| requests.len() >= count);
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(requests)) => requests.clone(),
            _ => panic!("the receiver gave up waiting for {count} requests; it has {}", self.count()),
        }
    }
}

impl Shared {
    async fn serve(self: Arc<Shared>, stream: TcpStream) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let Ok(stream) = self.acceptor.accept(stream).await else { return };
        let client = stream.get_ref().1.peer_certificates().map(|chain| chain[0].clone().into_owned());
        let answer = service_fn(move |_: hyper::Request<Incoming>| {
            let (shared, client) = (self.clone(), client.clone());
            async move { Ok::<_, Infallible>(shared.answer(client).await) }
        });
        let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
        // An error is the client's affair.
        let _ = http.serve_connection(TokioIo::new(stream), answer).await;
    }

    async fn answer(&self, client: Option<CertificateDer<'static>>) -> hyper::Response<Body> {
        self.peak.fetch_max(self.open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        // The delay is what the test asked for.
        tokio::time::sleep(self.delay).await;
        self.open.fetch_sub(1, Ordering::SeqCst);
        self.requests.send_modify(|requests| requests.push(Secured { client }));
        hyper::Response::new(Body::empty())
    }
}

fn acceptor(shows: &Issued, asks: Option<&Authority>) -> TlsAcceptor {
    let provider = Arc::new(ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone());
    let builder = builder.with_safe_default_protocol_versions().expect("versions of TLS");
    let builder = match asks {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(certificate(&authority.pem())).expect("an authority");
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    let key = PrivateKeyDer::from_pem_slice(shows.key.as_bytes()).expect("a key");
    let mut config = builder.with_single_cert(vec![certificate(&shows.cert)], key).expect("a certificate with its key");
    config.alpn_protocols = vec![b"h2".to_vec()];
    TlsAcceptor::from(Arc::new(config))
}
