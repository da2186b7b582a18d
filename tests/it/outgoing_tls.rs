//! Certificates of an endpoint's own, and HTTP/2, through the whole program.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Authority, Issued, PemFiles, SecureReceiver, Stack, certificate, eventually};

/// The options that name the files of a client certificate.
fn options(files: &PemFiles, name: &str, issued: &Issued) -> [String; 4] {
    let certificate = files.put(&format!("{name}.pem"), &issued.cert);
    let key = files.put(&format!("{name}.key"), &issued.key);
    ["--client-certificate".into(), certificate, "--client-key".into(), key]
}

fn strings(options: &[String]) -> Vec<&str> {
    options.iter().map(String::as_str).collect()
}

async fn set(stack: &Stack, id: &str, options: &[&str]) {
    stack.cli(&[&["endpoint", "set", id], options].concat()).await.ok();
}

/// Emits until a request comes with this certificate: workers hear of a change within a second.
async fn shown_to(receiver: &SecureReceiver, stack: &Stack, issued: &Issued) {
    let expected = certificate(&issued.cert);
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
    let (authority, files) = (Authority::new("an authority"), PemFiles::new());
    let (first, second) = (authority.client("first"), authority.client("second"));
    let receiver = SecureReceiver::start(&authority.server(&["127.0.0.1"]), Some(&authority), Duration::ZERO);
    let (url, ca) = (receiver.url("127.0.0.1", "/"), files.put("ca.pem", &authority.pem()));
    let add = ["endpoint", "add", "--json", "--tenant", "acme", "--url", &url, "--ca", &ca];
    let added = stack.cli(&[&add[..], &strings(&options(&files, "first", &first))].concat()).await.json();
    let id = added["id"].as_str().unwrap().to_owned();
    assert_eq!(added["ca_sha256"].as_array().unwrap().len(), 1);
    assert_eq!(added["client_certificate_sha256"].as_str().unwrap().len(), 64);
    let sealed = "select count(*) from posthaste.endpoints
                   where position('PRIVATE'::bytea in client_identity) = 0 and position('CERTIFICATE'::bytea in ca) = 0";
    assert_eq!(stack.number(sealed).await, 1, "nothing is stored in the clear");
    let run = stack.run().await;
    shown_to(&receiver, &stack, &first).await;

    set(&stack, &id, &strings(&options(&files, "second", &second))).await;
    shown_to(&receiver, &stack, &second).await;
    let shown = stack.cli(&["endpoint", "show", &id]).await.ok().stdout;
    assert!(shown.contains("client certificate  ") && !shown.contains("PRIVATE"), "{shown}");

    set(&stack, &id, &["--no-client-certificate"]).await;
    let shown = stack.cli(&["endpoint", "show", &id, "--json"]).await.json();
    assert_eq!(
        (&shown["client_certificate_sha256"], &shown["client_certificate_expires_at"]),
        (&json!(null), &json!(null))
    );
    eventually("a delivery without the certificate has failed", async || {
        let event = stack.emit("acme", "order.created", "{}").await;
        let settled =
            async || ["delivered", "dead"].contains(&stack.delivery(event).await.status.as_str()).then_some(());
        stack.wait_relayed().await;
        eventually("it is settled", settled).await;
        (stack.delivery(event).await.status == "dead").then_some(())
    })
    .await;
    set(&stack, &id, &["--no-ca"]).await;
    let event = stack.emit("acme", "order.created", "{}").await;
    let dead = stack.wait_status(event, "dead").await;
    assert_eq!(dead.last_error.as_deref(), Some("TLS handshake failed"), "nobody else trusts this authority");
    for issued in [&first, &second] {
        assert!(!run.log().contains(issued.key.lines().nth(1).unwrap()));
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_are_refused_with_what_to_do() {
    let stack = Stack::new().await;
    let (authority, files) = (Authority::new("an authority"), PemFiles::new());
    let [_, certificate, _, key] = options(&files, "ours", &authority.client("ours"));
    let other_key = files.put("other.key", &authority.client("other").key);
    let [_, expired, _, expired_key] = options(&files, "expired", &authority.expired_server(&["ours"]));
    let add = ["endpoint", "add", "--tenant", "acme", "--url", "https://127.0.0.1:9999/"];
    for (given, said) in [
        (vec!["--ca", "/none/ca.pem"], "ca: /none/ca.pem cannot be read"),
        (vec!["--ca", &key], "ca: holds no certificate that can be read"),
        (vec!["--client-certificate", &key, "--client-key", &key], "client-certificate: holds no certificate"),
        (vec!["--client-certificate", &certificate, "--client-key", &certificate], "client-key: holds no private key"),
        (vec!["--client-certificate", &certificate, "--client-key", &other_key], "client-key: does not belong to"),
        (vec!["--client-certificate", &expired, "--client-key", &expired_key], "has expired on 2020-01-01"),
        (vec!["--client-certificate", &certificate], "--client-key"),
    ] {
        let done = stack.cli(&[&add[..], &given].concat()).await;
        assert!(done.code == 64 && done.stderr.contains(said), "{given:?}: {}", done.stderr);
        assert!(!done.stderr.contains("-----"), "{}", done.stderr);
    }
    assert_eq!(stack.number("select count(*) from posthaste.endpoints").await, 0);
}

#[tokio::test]
async fn many_streams_on_one_connection_are_no_more_than_the_endpoint_may_have_in_flight() {
    let stack = Stack::new().await;
    let (authority, files) = (Authority::new("an authority"), PemFiles::new());
    let receiver = SecureReceiver::start(&authority.server(&["127.0.0.1"]), None, Duration::from_millis(30));
    let (url, ca) = (receiver.url("127.0.0.1", "/"), files.put("ca.pem", &authority.pem()));
    stack.endpoint("acme", &url, &["--ca", &ca, "--max-in-flight", "4"]).await;
    stack.run().await;
    stack.emit_many("acme", "order.created", 60).await;
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 60)].into());
    assert_eq!(receiver.count(), 60);
    assert!((2..=4).contains(&receiver.peak()), "{} at the same time", receiver.peak());
    assert!(receiver.connections() <= 4, "{} connections", receiver.connections());
}
