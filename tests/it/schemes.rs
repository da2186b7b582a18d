//! Signatures of both schemes: each verified by an implementation that is not ours, and by the verifier of the kit.

use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use posthaste::domain::key_pair::PrivateKey;
use posthaste::receiver::verify::{Headers, Verifier};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde_json::{Value, json};
use standardwebhooks::Webhook;

use crate::harness::{Receiver, Request, Stack, eventually};

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}"))
}

fn verifies_v1(secret: &str, request: &Request) -> bool {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Webhook::new(secret).unwrap().verify(&request.body, &headers).is_ok()
}

fn verifies_v1a(public_key: &str, request: &Request) -> bool {
    let key = STANDARD.decode(public_key.strip_prefix("whpk_").unwrap()).unwrap();
    let content = format!("{}.{}.", request.id(), request.header("webhook-timestamp"));
    let content = [content.as_bytes(), &request.body].concat();
    let signatures = request.header("webhook-signature").split(' ').filter_map(|part| part.strip_prefix("v1a,"));
    let mut signatures = signatures.map(|encoded| STANDARD.decode(encoded).unwrap());
    signatures.any(|signature| UnparsedPublicKey::new(&ED25519, &key).verify(&content, &signature).is_ok())
}

fn verifies_ours(keys: &str, request: &Request) -> bool {
    let headers = Headers::read(|name| Some(request.header(name)).filter(|value| !value.is_empty()));
    keys.parse::<Verifier>().unwrap().verify(headers, &request.body, SystemTime::now()).is_ok()
}

/// The first request that has so many signatures of each scheme: workers hear of a change within a second.
async fn signed(stack: &Stack, receiver: &Receiver, v1: usize, v1a: usize) -> Request {
    eventually(&format!("{v1} signatures by v1 and {v1a} by v1a"), async || {
        let before = receiver.count();
        stack.emit("acme", "order.created", r#"{ "a" : 1 }"#).await;
        let request = receiver.wait_for(before + 1).await.pop().unwrap();
        let signatures = request.header("webhook-signature").split(' ');
        let (first, second): (Vec<&str>, Vec<&str>) = signatures.partition(|signature| signature.starts_with("v1,"));
        (first.len() == v1 && second.len() == v1a).then_some(request)
    })
    .await
}

#[tokio::test]
async fn an_endpoint_is_signed_for_by_both_schemes_and_either_of_them_verifies() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let url = receiver.url("/");
    let add = ["endpoint", "add", "--tenant", "acme", "--url", &url, "--scheme", "v1,v1a", "--json"];
    let added = stack.cli(&add).await.json();
    let (secret, public_key) = (text(&added["secret"]), text(&added["public_key"]));
    stack.run().await;
    let request = signed(&stack, &receiver, 1, 1).await;
    assert!(verifies_v1(secret, &request) && verifies_v1a(public_key, &request));
    assert!(verifies_ours(secret, &request) && verifies_ours(public_key, &request));

    let shown = stack.cli(&["endpoint", "show", text(&added["id"]), "--json"]).await.json();
    assert_eq!((&shown["schemes"], &shown["public_keys"]), (&json!(["v1", "v1a"]), &json!([public_key])));
    let jwks = stack.cli(&["endpoint", "jwks", text(&added["id"])]).await.json();
    let x = STANDARD.decode(&public_key["whpk_".len()..]).unwrap();
    let key = &jwks["keys"][0];
    assert_eq!(
        (&key["kty"], &key["crv"], text(&key["x"])),
        (&json!("OKP"), &json!("Ed25519"), &*URL_SAFE_NO_PAD.encode(x))
    );

    let private = "select count(*) from posthaste.endpoint_secrets where kind = 'whsk' and length(key_ciphertext) = 72";
    assert_eq!(stack.number(private).await, 1, "nonce, 32 bytes and tag: sealed");
}

#[tokio::test]
async fn each_scheme_is_rotated_with_an_overlap_and_can_be_added_and_ended() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let id = endpoint.id.to_string();
    let cli =
        async |arguments: &[&str]| stack.cli(&[&["endpoint"][..], arguments, &[id.as_str(), "--json"]].concat()).await;
    stack.run().await;
    let refused = cli(&["set", "--end-scheme", "v1"]).await;
    assert!(refused.code == 1 && refused.stderr.contains("no other scheme"), "{}", refused.stderr);

    let old = cli(&["rotate-secret", "--scheme", "v1a"]).await.json();
    let old = text(&old["public_key"]);
    assert!(verifies_v1a(old, &signed(&stack, &receiver, 1, 1).await), "added beside v1");
    cli(&["set", "--end-scheme", "v1"]).await.ok();
    assert!(!verifies_v1(&endpoint.secret, &signed(&stack, &receiver, 0, 1).await));

    let new = cli(&["rotate-secret", "--grace", "2s"]).await.json();
    let new = text(&new["public_key"]);
    let during = signed(&stack, &receiver, 0, 2).await;
    let afterwards = signed(&stack, &receiver, 0, 1).await;
    assert!(verifies_v1a(old, &during) && verifies_v1a(new, &during));
    assert!(!verifies_v1a(old, &afterwards) && verifies_v1a(new, &afterwards));
    let added = cli(&["rotate-secret", "--scheme", "v1"]).await.json();
    assert!(verifies_v1(text(&added["secret"]), &signed(&stack, &receiver, 1, 1).await), "v1 again");
}

#[tokio::test]
async fn a_private_key_is_brought_along_in_a_file() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let (url, directory) = (receiver.url("/"), tempfile::tempdir().unwrap());
    let file = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).unwrap();
        directory.path().join(name).to_str().unwrap().to_owned()
    };
    let (first, second) = (PrivateKey::from_bytes(&[1; 32]).unwrap(), PrivateKey::from_bytes(&[2; 32]).unwrap());
    let (first_file, second_file) = (file("first", &first.reveal()), file("second", &format!("{}\n", second.reveal())));
    let add = ["endpoint", "add", "--tenant", "acme", "--url", &url, "--json"];

    let given = ["--scheme", "v1a", "--private-key-file", &first_file];
    let added = stack.cli(&[&add[..], &given].concat()).await.json();
    assert_eq!(text(&added["public_key"]), first.public().to_string());
    let rotate = ["endpoint", "rotate-secret", text(&added["id"]), "--private-key-file", &second_file, "--json"];
    assert_eq!(text(&stack.cli(&rotate).await.json()["public_key"]), second.public().to_string());
    stack.run().await;
    let request = signed(&stack, &receiver, 0, 2).await;
    assert!([first, second].iter().all(|key| verifies_v1a(&key.public().to_string(), &request)));

    let (damaged, missing) = (file("damaged", "whsk_hunter2!"), file("missing", "") + "-not");
    for (arguments, said) in [
        (["--scheme", "v1a", "--private-key-file", &damaged], "private-key-file: key: is not base64"),
        (["--scheme", "v1a", "--private-key-file", &missing], "private-key-file: cannot be read"),
        (["--scheme", "v1", "--private-key-file", &first_file], "is for the scheme v1a"),
    ] {
        let refused = stack.cli(&[&add[..], &arguments].concat()).await;
        assert_eq!(refused.code, 64, "{}", refused.stderr);
        assert!(refused.stderr.contains(said) && !refused.stderr.contains("hunter2"), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn public_keys_are_served_where_that_is_switched_on_and_asking_costs_little() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let url = receiver.url("/");
    let add = ["endpoint", "add", "--tenant", "acme", "--url", &url, "--scheme", "v1a", "--json"];
    let added = stack.cli(&add).await.json();
    let id = text(&added["id"]);
    let by_v1 = stack.endpoint("acme", &url, &[]).await.id.to_string();
    let serving = stack.start("relay", &[("telemetry.jwks", "true")]).await;

    let (status, body) = serving.get(&format!("/jwks/{id}")).await;
    assert_eq!(status, 200, "{body}");
    let served: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(served, stack.cli(&["endpoint", "jwks", id]).await.json());
    for none in [by_v1.as_str(), "00000000-0000-0000-0000-000000000000", "x"] {
        assert_eq!(serving.get(&format!("/jwks/{none}")).await.0, 404, "{none}");
    }
    stack.cli(&["endpoint", "rotate-secret", id, "--json"]).await.ok();
    eventually("both keys are served", async || {
        let (_, body) = serving.get(&format!("/jwks/{id}")).await;
        let served: Value = serde_json::from_str(&body).unwrap();
        (served["keys"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;

    let ids: Vec<String> = (0..200_u32).map(|n| format!("/jwks/00000000-0000-0000-0000-{n:012}")).collect();
    let answers = futures_util::future::join_all(ids.iter().map(|path| serving.get(path))).await;
    assert!(answers.iter().all(|(status, _)| [404, 503].contains(status)), "{answers:?}");
    let sessions = "select count(*) from pg_stat_activity where application_name = 'posthaste jwks' and datname = current_database()";
    assert_eq!(stack.number(sessions).await, 1, "however many ask");
    let silent = stack.start("worker", &[]).await;
    assert_eq!(silent.get(&format!("/jwks/{id}")).await.0, 404, "off by default");
}
