//! What is sent: the producer's exact bytes, signed anew for every attempt.

use std::collections::HashSet;
use std::time::UNIX_EPOCH;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::json;
use standardwebhooks::Webhook;

use crate::harness::{Receiver, Reply, Request, Stack, eventually};

/// Three attempts, so that the timestamps differ.
const SCHEDULE: (&str, &str) = ("retry.schedule", r#"["1100ms", "100ms"]"#);

/// As the reference library of Standard Webhooks sees it.
pub fn verifies(secret: &str, request: &Request) -> bool {
    let mut headers = HeaderMap::new();
    for (name, value) in &request.headers {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    Webhook::new(secret).unwrap().verify(&request.body, &headers).is_ok()
}

#[tokio::test]
async fn every_attempt_sends_the_producers_bytes_under_the_same_id_with_a_fresh_signature() {
    let (stack, receiver) = (Stack::with(&[SCHEDULE]).await, Receiver::start());
    receiver.at("/", |n| if n < 3 { Reply::status(500) } else { Reply::ok() });
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let large = format!(r#"{{"text":"{}"}}"#, "x\\u0041\u{1f980}".repeat(95_000));
    assert!((900_000..=1_048_576).contains(&large.len()));
    let payloads = [
        "{ \"b\" :1,\n\t\"a\":  [ ] ,\"b\": 2 }",
        r#"{"escaped": "\u00e9\ud83e\udd80\/\u2028", "plain": "é🦀/"}"#,
        r#"{"big": 123456789012345678901234567890, "small": 1e-400, "zero": -0.0, "exact": 1.10}"#,
        "\n  \"just a text\"  \r\n",
        " null ",
        &large,
    ];
    let mut ids = Vec::new();
    for payload in payloads {
        ids.push(stack.emit("acme", "order.created", payload).await.to_string());
    }

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), payloads.len() as i64)].into());

    let requests = receiver.requests();
    assert_eq!(requests.len(), 3 * payloads.len());
    for (id, payload) in ids.iter().zip(payloads) {
        let attempts: Vec<&Request> = requests.iter().filter(|request| request.id() == id).collect();
        assert_eq!(attempts.len(), 3);
        for request in &attempts {
            assert!(request.body == payload.as_bytes(), "the bytes of {:.60}", payload);
            assert!(verifies(&endpoint.secret, request));
            let timestamp: u64 = request.header("webhook-timestamp").parse().unwrap();
            let sent = request.time.duration_since(UNIX_EPOCH).unwrap().as_secs();
            assert!(sent.abs_diff(timestamp) <= 1, "{sent} and {timestamp}");
        }
        let signatures: HashSet<&str> = attempts.iter().map(|request| request.header("webhook-signature")).collect();
        let timestamps: HashSet<&str> = attempts.iter().map(|request| request.header("webhook-timestamp")).collect();
        assert_eq!(signatures.len(), timestamps.len(), "a signature belongs to its timestamp");
        assert!(timestamps.len() >= 2, "{timestamps:?}");
    }
    let mut changed = requests[0].clone();
    changed.body.push(b' ');
    assert!(!verifies(&endpoint.secret, &changed), "one byte more does not verify");
}

#[tokio::test]
async fn a_payload_of_the_limit_is_delivered_and_one_byte_more_is_refused_at_emit() {
    const LIMIT: usize = 1_048_576;
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let of = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let emit = "select posthaste.emit('acme', 'order.created', $1::text::json)";

    let refused = sqlx::query(emit).bind(of(LIMIT + 1)).execute(&stack.db).await.unwrap_err();
    let largest = stack.emit("acme", "order.created", &of(LIMIT)).await;

    let refused = refused.as_database_error().unwrap().message().to_owned();
    assert!(refused.starts_with("posthaste: payload: ") && refused.contains("1048576"), "{refused:.200}");
    assert_eq!(stack.wait_status(largest, "delivered").await.attempts, 1);
    assert!(receiver.requests()[0].body == of(LIMIT).as_bytes());
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn during_a_rotation_both_secrets_sign_and_afterwards_only_the_new_one() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let own = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &["--secret", own]).await;
    assert_eq!(endpoint.secret, own);
    stack.run().await;
    let id = endpoint.id.to_string();
    let rotate = ["endpoint", "rotate-secret", &id, "--json", "--grace", "10s"];
    let rotated = stack.cli(&rotate).await.json();
    let new = rotated["secret"].as_str().unwrap();
    assert_eq!(rotated["live_secrets"], json!(2));
    let signed = async |parts: usize| {
        eventually(&format!("{parts} secrets sign"), async || {
            let before = receiver.count();
            stack.emit("acme", "order.created", "{}").await;
            let request = receiver.wait_for(before + 1).await.pop().unwrap();
            (request.header("webhook-signature").split(' ').count() == parts).then_some(request)
        })
        .await
    };

    let during = signed(2).await;
    let afterwards = signed(1).await;

    assert!(verifies(own, &during) && verifies(new, &during));
    assert!(!verifies(own, &afterwards) && verifies(new, &afterwards));
}

#[tokio::test]
async fn custom_headers_are_sent_and_are_redacted_where_they_are_kept() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let headers = ["--header", "X-Api-Key: hunter2", "--header", "Authorization: Bearer s3cret"];
    stack.endpoint("acme", &receiver.url("/"), &headers).await;
    let worker = stack.run().await;

    let id = stack.emit("acme", "order.created", r#"{"card":"4111-1111"}"#).await;

    stack.wait_status(id, "delivered").await;
    let request = &receiver.requests()[0];
    assert_eq!((request.header("x-api-key"), request.header("authorization")), ("hunter2", "Bearer s3cret"));
    let kept = stack.attempts(id).await[0].request_headers.to_string();
    assert!(kept.contains("[redacted]") && !kept.contains("hunter2") && !kept.contains("s3cret"), "{kept}");
    let log = worker.log();
    for secret in ["hunter2", "s3cret", "4111-1111"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn secrets_are_not_readable_in_the_database_and_shown_by_no_command() {
    let stack = Stack::new().await;
    let add = ["--header", "X-Api-Key: hunter2hunter2"];
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/hook", &add).await;
    let dump = "select (select jsonb_agg(e) from posthaste.endpoints e)::text
        || (select jsonb_agg(s) from posthaste.endpoint_secrets s)::text
        || (select string_agg(encode(key_ciphertext, 'escape'), '') from posthaste.endpoint_secrets)
        || (select string_agg(encode(headers, 'escape'), '') from posthaste.endpoints)";
    let stored: String = sqlx::query_scalar(dump).fetch_one(&stack.db).await.unwrap();
    let base64 = endpoint.secret.trim_start_matches("whsec_");
    assert!(!stored.contains(base64) && !stored.contains("hunter2"), "{stored}");
    let key =
        "select count(*) from posthaste.endpoint_secrets where position(decode($1, 'base64') in key_ciphertext) > 0";
    let raw: i64 = sqlx::query_scalar(key).bind(base64).fetch_one(&stack.db).await.unwrap();
    assert_eq!(raw, 0, "the key's bytes are not in the ciphertext");
    for command in [vec!["endpoint", "show", &endpoint.id.to_string()], vec!["endpoint", "list"]] {
        for format in [&[][..], &["--json"]] {
            let done = stack.cli(&[&command, format].concat()).await.ok();
            let said = done.stdout + &done.stderr;
            assert!(!said.contains("whsec_") && !said.contains("hunter2"), "{said}");
        }
    }
}

#[tokio::test]
async fn what_the_workers_could_not_open_is_not_sealed() {
    const OTHER: [(&str, &str); 1] = [("security.encryption_key", "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=")];
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    stack.run().await;
    let url = receiver.url("/other");
    for command in [
        &["endpoint", "rotate-secret", &endpoint, "--json"][..],
        &["endpoint", "set", &endpoint, "--header", "X-Key: 1"],
        &["endpoint", "add", "--tenant", "acme", "--url", &url],
    ] {
        let refused = stack.cli_with(command, &OTHER).await;
        assert_eq!(refused.code, 64, "{command:?}: {refused:?}");
        assert!(refused.stderr.contains("the key that the workers have"), "{}", refused.stderr);
    }

    let id = stack.emit("acme", "order.created", "{}").await;

    stack.wait_status(id, "delivered").await;
    let keys = "select count(distinct key_id) from posthaste.endpoint_secrets";
    assert_eq!((stack.number(keys).await, receiver.count()), (1, 1));
    // Meant so: the key was lost.
    let rotate = ["endpoint", "rotate-secret", &endpoint, "--grace", "0s", "--new-key"];
    stack.cli_with(&rotate, &OTHER).await.ok();
    stack.cli_with(&rotate[..5], &OTHER).await.ok();
}
