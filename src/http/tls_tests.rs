use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::http::test_server::{AMPLE, Server, client, options, post};

/// For `localhost` and 127.0.0.1, signed by itself, valid until 2120. Nobody trusts it.
const CERTIFICATE: &str = "\
    MIIBbzCCARSgAwIBAgIBATAKBggqhkjOPQQDAjAZMRcwFQYDVQQDDA50ZXN0LmxvY2FsaG9zdDAgFw0yMDAxMDEwMDAwMDBaGA8y\
    MTIwMDEwMTAwMDAwMFowGTEXMBUGA1UEAwwOdGVzdC5sb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ3ctUiv46/\
    usftmhFL5eV0QIcfpwyKnJ+GDiKrTmuB3ceS9cHHk3H1OQfk8wHTln55sj4JMrXRirKmQj4kB2+0o0swSTAaBgNVHREEEzARggls\
    b2NhbGhvc3SHBH8AAAEwDAYDVR0TAQH/BAIwADAdBgNVHQ4EFgQUUARiHOKNll7u6eD1xetT3+61XAwwCgYIKoZIzj0EAwIDSQAw\
    RgIhAL4WgRdrRpgecyTOz6FTeq4u6kessUErajdJcDXS97WIAiEA/YA7Udx4geVT59eAiQLFQF7+h1RD7eg7PexW7E11Tws=";
const KEY: &str = "\
    MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgH9suZwT5veWzL/OAFi2H4kF1BP5UCK3vLkJA+b5eCsGhRANCAAQ3\
    ctUiv46/usftmhFL5eV0QIcfpwyKnJ+GDiKrTmuB3ceS9cHHk3H1OQfk8wHTln55sj4JMrXRirKmQj4kB2+0";

pub(super) fn certificate() -> Vec<u8> {
    STANDARD.decode(CERTIFICATE).unwrap()
}

/// Speaks TLS, offers HTTP/2, and goes on as the script says. All certificates have the same key.
pub(super) async fn tls_server<F, Fut>(chain: Vec<Vec<u8>>, script: F) -> Server
where
    F: Fn(TlsStream<TcpStream>) -> Fut + Copy + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let key = PrivatePkcs8KeyDer::from(STANDARD.decode(KEY).unwrap());
    let ring = rustls::crypto::ring::default_provider();
    let mut config = rustls::ServerConfig::builder_with_provider(ring.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain.into_iter().map(CertificateDer::from).collect(), key.into())
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config));
    Server::start(move |stream| {
        let acceptor = acceptor.clone();
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                script(stream).await;
            }
        }
    })
    .await
}

/// Answers every request of an HTTP/2 connection.
pub(super) async fn answer(
    stream: TlsStream<TcpStream>,
    with: fn(hyper::Request<hyper::body::Incoming>) -> hyper::Response<axum::body::Body>,
) {
    let answer = |request| async move { Ok::<_, std::convert::Infallible>(with(request)) };
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    let _ = http.serve_connection(TokioIo::new(stream), hyper::service::service_fn(answer)).await;
}

/// With the version that was spoken.
pub(super) async fn tell_version(stream: TlsStream<TcpStream>) {
    answer(stream, |request| hyper::Response::new(axum::body::Body::from(format!("{:?}", request.version())))).await;
}

/// A client that trusts these certificates, too.
pub(super) fn trusting(certificates: &[Vec<u8>]) -> Client {
    let guard = Guard { allow: options().allow_cidrs };
    let resolver = Resolver::system(guard, Duration::from_secs(5)).unwrap();
    let mut trusted = (*tls::system_authorities().unwrap()).clone();
    for certificate in certificates {
        trusted.add(CertificateDer::from(certificate.clone())).unwrap();
    }
    Client::build(options(), resolver, trusted.into()).unwrap()
}

#[tokio::test]
async fn a_trusted_server_that_offers_http_2_gets_it_on_one_connection() {
    let server = tls_server(vec![certificate()], tell_version).await;
    let client = trusting(&[certificate()]);
    for _ in 0..3 {
        let exchange = post(&client, &format!("https://localhost:{}/", server.addr.port()), AMPLE).await;
        assert!(exchange.outcome.unwrap().is_delivered(), "{exchange:?}");
        assert_eq!(exchange.response_body.as_deref(), Some("HTTP/2.0"));
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_certificate_that_nobody_signed_is_refused() {
    let server = tls_server(vec![certificate()], tell_version).await;
    let exchange = post(&client(), &format!("https://{}/", server.addr), AMPLE).await;
    assert_eq!(exchange.outcome, Ok(Outcome::Failed(Failure::Tls)));
}

#[tokio::test]
async fn a_port_without_tls_fails_the_handshake() {
    let plain = Server::answering("").await;
    let answers_in_clear = Server::start(|mut stream| async move {
        use tokio::io::AsyncWriteExt;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        std::future::pending::<()>().await;
    })
    .await;
    let hangs_up = Server::start(|mut stream| async move {
        use tokio::io::AsyncReadExt;
        let _ = stream.read(&mut [0; 4096]).await;
    })
    .await;
    drop(plain);
    for server in [answers_in_clear, hangs_up] {
        let exchange = post(&client(), &format!("https://{}/", server.addr), AMPLE).await;
        assert_eq!(exchange.outcome, Ok(Outcome::Failed(Failure::Tls)));
    }
}
