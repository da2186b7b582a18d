//! Whom we trust, and whom we show which certificate.

use super::*;
use crate::http::test_certificates::{Authority, Tls, server};
use crate::http::test_server::{AMPLE, Server, client, post, post_own};

const BOTH: [&str; 2] = ["h2", "http/1.1"];

fn at(server: &Server, host: &str) -> String {
    format!("https://{host}:{}/", server.addr.port())
}

#[tokio::test]
async fn a_server_that_speaks_only_http_2_gets_it_on_one_connection() {
    let authority = Authority::new();
    let shows = authority.issue(&["localhost"]);
    let server = server(&Tls { shows: &shows, asks: None, protocols: &["h2"] }).await;
    let (client, own) = (client(), authority.trusted());
    for _ in 0..3 {
        let exchange = post_own(&client, &at(&server, "localhost"), 1, &own).await;
        assert!(exchange.outcome.unwrap().is_delivered(), "{exchange:?}");
        assert_eq!(exchange.response_body.as_deref(), Some("HTTP/2.0 nobody"));
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn http_2_is_preferred_and_http_1_is_spoken_where_nothing_else_is() {
    let authority = Authority::new();
    let shows = authority.issue(&["localhost", "127.0.0.1"]);
    let cases: [(&[&str], &str); 3] =
        [(&BOTH, "HTTP/2.0 nobody"), (&["http/1.1"], "HTTP/1.1 nobody"), (&[], "HTTP/1.1 nobody")];
    for (protocols, answer) in cases {
        let server = server(&Tls { shows: &shows, asks: None, protocols }).await;
        let exchange = post_own(&client(), &at(&server, "127.0.0.1"), 1, &authority.trusted()).await;
        assert_eq!(exchange.response_body.as_deref(), Some(answer), "{protocols:?}: {exchange:?}");
    }
}

#[tokio::test]
async fn only_a_certificate_of_a_trusted_authority_for_this_very_host_is_accepted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let localhost = authority.issue(&["localhost"]);
    let expired = authority.issue_until(&["localhost"], 2020);
    let cases = [
        (&localhost, "localhost", Some(&authority), true),
        // Nobody has told us of this authority.
        (&localhost, "localhost", None, false),
        (&localhost, "localhost", Some(&other), false),
        (&localhost, "127.0.0.1", Some(&authority), false),
        (&expired, "localhost", Some(&authority), false),
    ];
    for (shows, host, trusted, accepted) in cases {
        let server = server(&Tls { shows, asks: None, protocols: &BOTH }).await;
        let (client, url) = (client(), at(&server, host));
        let exchange = match trusted {
            Some(trusted) => post_own(&client, &url, 1, &trusted.trusted()).await,
            None => post(&client, &url, AMPLE).await,
        };
        let expected = if accepted { Outcome::response(200, None) } else { Outcome::Failed(Failure::Tls) };
        assert_eq!(exchange.outcome, Ok(expected), "{host}");
    }
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_certificate_gets_the_endpoints_own() {
    let authority = Authority::new();
    let (shows, ours) = (authority.issue(&["localhost"]), authority.issue(&["posthaste"]));
    let stranger = Authority::new().issue(&["posthaste"]);
    for protocols in [&["h2"][..], &["http/1.1"]] {
        let server = server(&Tls { shows: &shows, asks: Some(&authority), protocols }).await;
        let (client, url) = (client(), at(&server, "localhost"));
        let exchange = post_own(&client, &url, 1, &authority.trusted_with(&ours)).await;
        assert!(exchange.outcome.unwrap().is_delivered(), "{exchange:?}");
        assert!(exchange.response_body.unwrap().ends_with(&ours.fingerprint()));
        for own in [authority.trusted(), authority.trusted_with(&stranger)] {
            let exchange = post_own(&client, &url, 2, &own).await;
            assert!(matches!(exchange.outcome, Ok(Outcome::Failed(_))), "{exchange:?}");
        }
    }
}

#[tokio::test]
async fn a_connection_serves_only_the_endpoint_and_the_certificate_that_it_was_made_for() {
    let authority = Authority::new();
    let (shows, old, new) =
        (authority.issue(&["localhost"]), authority.issue(&["old.posthaste"]), authority.issue(&["new.posthaste"]));
    let server = server(&Tls { shows: &shows, asks: Some(&authority), protocols: &BOTH }).await;
    let (client, url) = (client(), at(&server, "localhost"));
    let steps = [(1, &old, 1), (1, &old, 1), (2, &new, 2), (1, &new, 3), (1, &new, 3), (1, &old, 4)];
    for (endpoint, identity, connections) in steps {
        let exchange = post_own(&client, &url, endpoint, &authority.trusted_with(identity)).await;
        assert!(exchange.response_body.unwrap().ends_with(&identity.fingerprint()));
        assert_eq!(server.accepted(), connections);
    }
}
