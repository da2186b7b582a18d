//! Receivers that mean harm and speak TLS.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::tls_tests::{answer, certificate, tell_version, tls_server, trusting};
use super::*;
use crate::domain::outcome::Phase;
use crate::http::test_server::{AMPLE, SHORT, Server, options, post};

/// For `localhost`, signed by itself, valid in 2020.
const EXPIRED: &str = "\
    MIIBRzCB7aADAgECAgEBMAoGCCqGSM49BAMCMBkxFzAVBgNVBAMMDnRlc3QubG9jYWxob3N0MB4XDTIwMDEwMTAwMDAwMFoXDTIx\
    MDEwMTAwMDAwMFowGTEXMBUGA1UEAwwOdGVzdC5sb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ3ctUiv46/usft\
    mhFL5eV0QIcfpwyKnJ+GDiKrTmuB3ceS9cHHk3H1OQfk8wHTln55sj4JMrXRirKmQj4kB2+0oyYwJDAUBgNVHREEDTALgglsb2Nh\
    bGhvc3QwDAYDVR0TAQH/BAIwADAKBggqhkjOPQQDAgNJADBGAiEA0t+ipQPZhQe/ZJouCH2Fu1cR5eAyq5i8fhHTt5VfsWICIQC7\
    7zaGlF9GMjUGHdLvl3kPniAno59eiEu2fhkIx3woCg==";
/// For `localhost`, signed by itself, valid in 2119.
const NOT_YET: &str = "\
    MIIBSTCB8aADAgECAgEBMAoGCCqGSM49BAMCMBkxFzAVBgNVBAMMDnRlc3QubG9jYWxob3N0MCIYDzIxMTkwMTAxMDAwMDAwWhgP\
    MjEyMDAxMDEwMDAwMDBaMBkxFzAVBgNVBAMMDnRlc3QubG9jYWxob3N0MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEN3LVIr+O\
    v7rH7ZoRS+XldECHH6cMipyfhg4iq05rgd3HkvXBx5Nx9TkH5PMB05Z+ebI+CTK10YqypkI+JAdvtKMmMCQwFAYDVR0RBA0wC4IJ\
    bG9jYWxob3N0MAwGA1UdEwEB/wQCMAAwCgYIKoZIzj0EAwIDRwAwRAIgeStnep+YXkVMOj6SUuzZX9k2QJr3G+YCRD7inK33NMMC\
    IG1suWNrhTSILzzCHmEfRdWGcGWFzXuj/lscJOsJypWd";
/// For `other.example`, signed by itself, valid until 2120.
const OTHER: &str = "\
    MIIBSjCB8aADAgECAgEBMAoGCCqGSM49BAMCMBgxFjAUBgNVBAMMDW90aGVyLmV4YW1wbGUwIBcNMjAwMTAxMDAwMDAwWhgPMjEy\
    MDAxMDEwMDAwMDBaMBgxFjAUBgNVBAMMDW90aGVyLmV4YW1wbGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ3ctUiv46/usft\
    mhFL5eV0QIcfpwyKnJ+GDiKrTmuB3ceS9cHHk3H1OQfk8wHTln55sj4JMrXRirKmQj4kB2+0oyowKDAYBgNVHREEETAPgg1vdGhl\
    ci5leGFtcGxlMAwGA1UdEwEB/wQCMAAwCgYIKoZIzj0EAwIDSAAwRQIgc4XEE48XMVx860rtcbWzwIJvjgvTREXVW5I4gSyGmqwC\
    IQCpNXspDgiSIGRVS5s+bt6G6ZSlgHYwaVQCWrpp0HvSRg==";

const TLS: Ended = Ok(Outcome::Failed(Failure::Tls));

fn url(server: &Server) -> String {
    format!("https://localhost:{}/", server.addr.port())
}

#[tokio::test]
async fn a_certificate_out_of_its_time_or_for_another_name_is_refused_also_when_it_is_trusted() {
    let certificates = [EXPIRED, NOT_YET, OTHER].map(|text| STANDARD.decode(text).unwrap());
    let client = trusting(&[certificates.as_slice(), &[certificate()]].concat());
    for bad in certificates {
        let server = tls_server(vec![bad], tell_version).await;
        assert_eq!(post(&client, &url(&server), AMPLE).await.outcome, TLS);
    }
    let right = tls_server(vec![certificate()], tell_version).await;
    assert!(post(&client, &url(&right), AMPLE).await.outcome.unwrap().is_delivered());
    let by_address = format!("https://127.0.0.1:{}/", right.addr.port());
    assert!(post(&client, &by_address, AMPLE).await.outcome.unwrap().is_delivered(), "it names the address, too");
}

#[tokio::test]
async fn a_chain_of_certificates_is_looked_at_up_to_a_size() {
    let client = trusting(&[certificate()]);
    for (length, delivered) in [(100, true), (1_000, false)] {
        let server = tls_server(vec![certificate(); length], tell_version).await;
        let outcome = post(&client, &url(&server), AMPLE).await.outcome;
        assert_eq!(outcome.as_ref().is_ok_and(Outcome::is_delivered), delivered, "{length}: {outcome:?}");
        assert!(delivered || outcome == TLS, "{length}: {outcome:?}");
    }
    let distrusting = Client::new(options()).unwrap();
    let nobody_trusts = tls_server(vec![certificate(); 100], tell_version).await;
    assert_eq!(post(&distrusting, &url(&nobody_trusts), AMPLE).await.outcome, TLS);
}

async fn silence(stream: TlsStream<TcpStream>) {
    std::future::pending::<()>().await;
    drop(stream);
}

async fn flood(stream: TlsStream<TcpStream>) {
    answer(stream, |_| {
        let many = (0..2_000).fold(hyper::Response::builder(), |head, n| head.header(format!("x-{n}"), "v"));
        many.body(axum::body::Body::empty()).unwrap()
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_silent_after_the_handshake_ends_at_the_deadline() {
    let server = tls_server(vec![certificate()], silence).await;
    let exchange = post(&trusting(&[certificate()]), &url(&server), SHORT).await;
    assert_eq!(exchange.outcome, Ok(Outcome::Timeout(Phase::Response)));
}

#[tokio::test]
async fn a_flood_of_headers_over_http_2_is_cut_off() {
    let server = tls_server(vec![certificate()], flood).await;
    let exchange = post(&trusting(&[certificate()]), &url(&server), AMPLE).await;
    assert_eq!(exchange.outcome, Ok(Outcome::Failed(Failure::Http2)));
}

#[tokio::test]
async fn a_huge_body_over_http_2_is_not_read_to_its_end() {
    async fn huge(stream: TlsStream<TcpStream>) {
        answer(stream, |_| hyper::Response::new(axum::body::Body::from(vec![b'x'; 16 * 1024 * 1024]))).await;
    }
    let server = tls_server(vec![certificate()], huge).await;
    let client = trusting(&[certificate()]);
    for _ in 0..3 {
        let exchange = post(&client, &url(&server), AMPLE).await;
        assert_eq!((exchange.outcome, exchange.response_body.unwrap().len()), (Ok(Outcome::response(200, None)), 1024));
    }
}
