//! Certificates of an endpoint's own, and HTTP/2, through the whole program.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Authority, Issued, SecureReceiver, Stack, eventually};

fn strings(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

async fn set(stack: &Stack, id: &str, options: &[&str]) {
    stack.cli(&[&["endpoint", "set", id], options].concat()).await.ok();
}

/// Emits until a request comes with this certificate: workers hear of a change within a second.
async fn shown_to(receiver: &SecureReceiver, stack: &Stack, issued: &Issued) {
    let expected = issued.chain().remove(0);
    eventually("a request with the certificate", async || {
        let before = receiver.count();
        stack.emit("acme", "order.created", "{}").await;
        let last = receiver.wait_for(before + 1).await.pop()?;
        (last.client.as_ref() == Some(&expected)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_receiver_that_asks_for_a_certificate_gets_it_until_it_is_changed_or_taken_away() {
    let stack = Stack::with(&[("retry.schedule", r#"["50ms"]"#)]).await;
    let authority = Authority::new();
    let (first, second) = (authority.issue("first.posthaste"), authority.issue("second.posthaste"));
    let receiver = SecureReceiver::start(&authority.issue("localhost"), Some(&authority), Duration::ZERO);
    let (url, ca) = (receiver.url("127.0.0.1", "/"), authority.file());
    let add = ["endpoint", "add", "--json", "--tenant", "acme", "--url", &url, "--ca", &ca];
    let added = stack.cli(&[&add[..], &strings(&first.options())].concat()).await.json();
    let id = added["id"].as_str().unwrap().to_owned();
    assert_eq!(added["ca_sha256"].as_array().unwrap().len(), 1);
    assert_eq!(added["client_certificate_sha256"].as_str().unwrap().len(), 64);
    let sealed = "select count(*) from posthaste.endpoints
                   where position('PRIVATE'::bytea in client_identity) = 0 and position('CERTIFICATE'::bytea in ca) = 0";
    assert_eq!(stack.number(sealed).await, 1, "nothing is stored in the clear");
    let run = stack.run().await;
    shown_to(&receiver, &stack, &first).await;

    set(&stack, &id, &strings(&second.options())).await;
    shown_to(&receiver, &stack, &second).await;
    let shown = stack.cli(&["endpoint", "show", &id]).await.ok().stdout;
    assert!(shown.contains("client certificate  ") && !shown.contains("PRIVATE"), "{shown}");

    set(&stack, &id, &["--no-client-certificate"]).await;
    let shown = stack.cli(&["endpoint", "show", &id, "--json"]).await.json();
    assert_eq!((&shown["client_certificate_sha256"], &shown["client_certificate_expires_at"]), (&json!(null), &json!(null)));
    eventually("a delivery without the certificate has failed", async || {
        let event = stack.emit("acme", "order.created", "{}").await;
        let settled = async || ["delivered", "dead"].contains(&stack.delivery(event).await.status.as_str()).then_some(());
        stack.wait_relayed().await;
        eventually("it is settled", settled).await;
        (stack.delivery(event).await.status == "dead").then_some(())
    })
    .await;
    set(&stack, &id, &["--no-ca"]).await;
    let event = stack.emit("acme", "order.created", "{}").await;
    let dead = stack.wait_status(event, "dead").await;
    assert_eq!(dead.last_error.as_deref(), Some("TLS handshake failed"), "nobody else trusts this authority");
    for key in [&first, &second] {
        let pem = std::fs::read_to_string(&key.key).unwrap();
        assert!(!run.log().contains(pem.lines().nth(1).unwrap()));
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_with_what_to_do() {
    let stack = Stack::new().await;
    let authority = Authority::new();
    let (ours, other) = (authority.issue("ours"), authority.issue("other"));
    let [_, certificate, _, key] = ours.options();
    let other_key = other.options()[3].clone();
    let add = ["endpoint", "add", "--tenant", "acme", "--url", "https://127.0.0.1:9999/"];
    for (options, said) in [
        (vec!["--ca", "/none/ca.pem"], "ca: /none/ca.pem cannot be read"),
        (vec!["--ca", &key], "ca: holds no certificate that can be read"),
        (vec!["--client-certificate", &key, "--client-key", &key], "client-certificate: holds no certificate"),
        (vec!["--client-certificate", &certificate, "--client-key", &certificate], "client-key: holds no private key"),
        (vec!["--client-certificate", &certificate, "--client-key", &other_key], "client-key: does not belong to"),
        (vec!["--client-certificate", &certificate], "--client-key"),
    ] {
        let done = stack.cli(&[&add[..], &options].concat()).await;
        assert!(done.code == 64 && done.stderr.contains(said), "{options:?}: {}", done.stderr);
        assert!(!done.stderr.contains("BEGIN"), "{}", done.stderr);
    }
    assert_eq!(stack.number("select count(*) from posthaste.endpoints").await, 0);
}

#[tokio::test]
async fn many_streams_on_one_connection_are_no_more_than_the_endpoint_may_have_in_flight() {
    let stack = Stack::new().await;
    let authority = Authority::new();
    let receiver = SecureReceiver::start(&authority.issue("localhost"), None, Duration::from_millis(30));
    let url = receiver.url("127.0.0.1", "/");
    stack.endpoint("acme", &url, &["--ca", &authority.file(), "--max-in-flight", "4"]).await;
    stack.run().await;
    stack.emit_many("acme", "order.created", 60).await;
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 60)].into());
    assert_eq!((receiver.peak(), receiver.count()), (4, 60));
    assert!(receiver.connections() <= 4, "{} connections", receiver.connections());
}
