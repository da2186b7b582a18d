//! What commands answer: one JSON value for programs, a table for people.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::harness::{Receiver, Reply, Request, Stack, command, eventually, nowhere};
use crate::kit::signal;

#[tokio::test]
async fn stats_and_dead_letters_are_one_json_value_each() {
    let stack = Stack::with(&[("retry.schedule", r#"["50ms"]"#)]).await;
    let receiver = Receiver::start();
    receiver.at("/broken", |_| Reply::status(500));
    let ok = stack.endpoint("ok", &receiver.url("/"), &[]).await.id.to_string();
    let broken = stack.endpoint("broken", &receiver.url("/broken"), &[]).await.id.to_string();
    stack.run().await;
    stack.emit_many("ok", "order.created", 3).await;
    let first = stack.emit("broken", "order.created", "{}").await.to_string();
    stack.wait_settled().await;
    let second = stack.emit("broken", "order.paid", "{}").await.to_string();
    stack.wait_settled().await;

    let stats = stack.cli(&["stats", "--json"]).await.json();
    let by_status = json!({"pending": 0, "retrying": 0, "held": 0, "delivered": 3, "dead": 2});
    assert_eq!(
        (&stats["outbox_pending"], &stats["deliveries"], &stats["set_aside"]),
        (&json!(0), &by_status, &json!(0))
    );
    let endpoints = stats["endpoints_last_24h"].as_array().unwrap();
    let of = |id: &str| endpoints.iter().find(|endpoint| endpoint["endpoint_id"] == id).unwrap();
    assert_eq!((&of(&ok)["delivered"], &of(&broken)["dead"]), (&json!(3), &json!(2)));
    let table = stack.cli(&["stats"]).await.ok().stdout;
    assert!(table.contains("delivered") && table.contains(&broken), "{table}");

    let listed = stack.cli(&["dead", "list", "--json"]).await.json();
    let ids: Vec<&str> = listed.as_array().unwrap().iter().map(|dead| dead["event_id"].as_str().unwrap()).collect();
    assert_eq!(ids, [second.as_str(), first.as_str()], "the newest first");
    let of_it = ["tenant", "event_type", "dead_reason", "attempts", "last_status_code"].map(|name| &listed[0][name]);
    assert_eq!(of_it, [&json!("broken"), &json!("order.paid"), &json!("exhausted"), &json!(2), &json!(500)]);
    let one = stack.cli(&["dead", "list", "--limit", "1", "--json"]).await.json();
    assert_eq!(one.as_array().unwrap().len(), 1);
    let none = stack.cli(&["dead", "list", "--tenant", "ok", "--json"]).await.json();
    assert_eq!(none, json!([]));
    let shown = stack.cli(&["dead", "show", &first, "--json"]).await.json();
    assert_eq!((&shown["event_id"], shown["deliveries"].as_array().unwrap().len()), (&json!(first), 1));
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 2);
    let table = stack.cli(&["dead", "list"]).await.ok().stdout;
    assert!(table.contains(&first) && table.contains("exhausted") && table.contains("REASON"), "{table}");
    let alive = "select event_id::text from posthaste.deliveries where status = 'delivered' limit 1";
    let alive: String = sqlx::query_scalar(alive).fetch_one(&stack.db).await.unwrap();
    let refused = stack.cli(&["dead", "show", &alive]).await;
    assert!(refused.code == 1 && refused.stderr.contains("has no dead delivery"), "{}", refused.stderr);
}

#[tokio::test]
async fn an_endpoint_can_be_looked_at_and_every_property_changed() {
    let (stack, receiver) = (Stack::with(&[("retry.policies.brief.schedule", r#"["1s"]"#)]).await, Receiver::start());
    let id = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    let other = stack.endpoint("other", &receiver.url("/"), &[]).await.id.to_string();
    let moved = receiver.url("/moved");
    let changes = [
        ("--url", moved.as_str(), "url", json!(moved)),
        ("--description", "shop", "description", json!("shop")),
        ("--description", "", "description", json!(null)),
        ("--max-in-flight", "7", "max_in_flight", json!(7)),
        ("--max-in-flight", "none", "max_in_flight", json!(null)),
        ("--rate-limit", "50", "rate_limit_per_second", json!(50.0)),
        ("--rate-limit", "none", "rate_limit_per_second", json!(null)),
        ("--timeout", "1500ms", "timeout_ms", json!(1500)),
        ("--retry-policy", "brief", "retry_policy", json!("brief")),
        ("--retry-policy", "none", "retry_policy", json!(null)),
        ("--event-types", "order.*,refund.made", "event_types", json!(["order.*", "refund.made"])),
    ];
    for (flag, value, name, shown) in changes {
        let set = stack.cli(&["endpoint", "set", &id, flag, value, "--json"]).await.json();
        assert_eq!(set[name], shown, "{flag} {value}");
    }
    let shown = stack.cli(&["endpoint", "show", &id, "--json"]).await.json();
    assert_eq!((&shown["url"], &shown["timeout_ms"]), (&json!(moved), &json!(1500)), "the rest is left as it was");
    let listed = stack.cli(&["endpoint", "list", "--tenant", "other", "--json"]).await.json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &json!(other)));
    let table = stack.cli(&["endpoint", "list"]).await.ok().stdout;
    assert!(table.contains(&id) && table.contains("order.*,refund.made"), "{table}");
    let table = stack.cli(&["endpoint", "show", &id]).await.ok().stdout;
    assert!(table.contains("1500 ms") && table.contains(&moved), "{table}");
    let private = stack.cli_with(&["endpoint", "set", &id, "--url", "http://10.0.0.1/"], &[]).await;
    assert_eq!(private.code, 64, "{}", private.stderr);
}

#[tokio::test]
async fn a_test_request_is_signed_and_leaves_no_trace() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/", |_| Reply::ok().body("welcome"));
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let tested = stack.cli(&["endpoint", "test", &endpoint.id.to_string(), "--json"]).await.json();
    assert_eq!((&tested["delivered"], &tested["status_code"]), (&json!(true), &json!(200)));
    assert_eq!(tested["response_body"], json!("welcome"));
    let request = &receiver.requests()[0];
    assert_eq!(request.header("posthaste-event-type"), "posthaste.test");
    verify(&endpoint.secret, request);
    let left = "select (select count(*) from posthaste.deliveries) + (select count(*) from posthaste.outbox)";
    assert_eq!(stack.number(left).await, 0);
    let table = stack.cli(&["endpoint", "test", &endpoint.id.to_string()]).await.ok().stdout;
    assert!(table.contains("delivered") && table.contains("true"), "{table}");
}

fn verify(secret: &str, request: &Request) {
    let webhook = standardwebhooks::Webhook::new(secret).unwrap();
    let mut headers = http::HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        headers.insert(name, request.header(name).parse().unwrap());
    }
    webhook.verify(&request.body, &headers).unwrap();
}

#[tokio::test]
async fn after_a_rotation_both_secrets_sign_until_the_old_one_expires() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let id = endpoint.id.to_string();
    let rotated = stack.cli(&["endpoint", "rotate-secret", &id, "--grace", "1h", "--json"]).await.json();
    assert_eq!((&rotated["live_secrets"], &rotated["grace_seconds"]), (&json!(2), &json!(3600)));
    let new = rotated["secret"].as_str().unwrap();
    assert!(new.starts_with("whsec_") && new != endpoint.secret);
    let test = async || stack.cli(&["endpoint", "test", &id]).await.ok();
    test().await;
    let both = receiver.requests()[0].clone();
    assert_eq!(both.header("webhook-signature").split(' ').count(), 2);
    verify(&endpoint.secret, &both);
    verify(new, &both);

    stack.execute("update posthaste.endpoint_secrets set expires_at = now() where expires_at is not null").await;

    test().await;
    let one = receiver.requests()[1].clone();
    assert_eq!(one.header("webhook-signature").split(' ').count(), 1);
    verify(new, &one);
    let given = format!("whsec_{}", "QUJD".repeat(8));
    let rotate = async |grace: &str, secret: &str| {
        let arguments = ["endpoint", "rotate-secret", &id, "--grace", grace, "--secret", secret, "--json"];
        let set = stack.cli(&arguments).await.json();
        assert_eq!(set["secret"], json!(secret));
        set["live_secrets"].as_i64().unwrap()
    };
    // A second rotation within the grace of the first one: three sign, and the first grace is not made longer.
    assert_eq!(rotate("1h", &given).await, 2);
    let last = format!("whsec_{}", "REVG".repeat(8));
    assert_eq!(rotate("30h", &last).await, 3);
    test().await;
    let three = receiver.requests()[2].clone();
    assert_eq!(three.header("webhook-signature").split(' ').count(), 3);
    for secret in [new, &given, &last] {
        verify(secret, &three);
    }
    let ends = "select count(*) from posthaste.endpoint_secrets where expires_at < now() + interval '2 hours'";
    assert_eq!(stack.number(ends).await, 1);
    assert_eq!(rotate("0s", &given).await, 1);
}

#[tokio::test]
async fn a_burst_is_measured_without_duplicates_and_cleans_up_after_itself() {
    let stack = Stack::new().await;
    stack.run().await;
    let bench = ["bench", "burst", "--events", "200", "--endpoints", "2", "--payload-bytes", "100", "--json"];
    let report = stack.cli(&bench).await.json();
    let counted =
        ["events", "deliveries", "duplicates", "rejected_signatures", "payload_bytes"].map(|name| &report[name]);
    assert_eq!(counted, [&json!(200), &json!(400), &json!(0), &json!(0), &json!(100)]);
    assert!(report["settled_seconds"].as_f64().unwrap() > 0.0);
    assert_eq!(stack.number("select count(*) from posthaste.endpoints").await, 0);
    let refused = stack.cli_with(&["bench", "burst"], &[("delivery.allow_cidrs", "[]")]).await;
    assert!(refused.code == 64 && refused.stderr.contains("delivery.allow_cidrs"), "{}", refused.stderr);
}

#[tokio::test]
async fn keygen_and_completions_need_no_servers() {
    let keys = [nowhere(&["keygen"], &[]).await.ok().stdout, nowhere(&["keygen"], &[]).await.ok().stdout];
    assert_ne!(keys[0], keys[1]);
    let stack = Stack::new().await;
    stack.cli_with(&["endpoint", "list"], &[("security.encryption_key", keys[0].trim())]).await.ok();
    for shell in ["bash", "zsh", "fish"] {
        let script = nowhere(&["completions", shell], &[]).await.ok().stdout;
        assert!(script.contains("posthaste") && script.contains("requeue"), "{shell}");
    }
    assert_eq!(nowhere(&["completions", "none"], &[]).await.code, 64);
}

/// The command `receiver` in the background, with what it prints.
struct Running {
    child: Child,
    output: BufReader<ChildStdout>,
    url: String,
}

impl Running {
    fn start(secret: &str, arguments: &[&str]) -> Running {
        let directory = std::env::temp_dir();
        let mut command = command(&[&["receiver"], arguments].concat(), &directory);
        command.env("POSTHASTE_RECEIVER_SECRET", secret);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let url = line.trim().strip_prefix("listening on ").expect("it says where it listens").to_owned();
        Running { child, output, url }
    }

    /// Asks it to stop: its exit code and the last line.
    fn stop(mut self) -> (Option<i32>, Value) {
        signal(self.child.id(), libc::SIGTERM);
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        (self.child.wait().unwrap().code(), serde_json::from_str(&line).unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn a_secret_that_the_environment_gives_to_the_test_receiver_is_refused_without_being_repeated() {
    let refused = nowhere(&["receiver"], &[("receiver_secret", "whsec_Zm9v!")]).await;
    assert_eq!(refused.code, 64);
    assert!(refused.stderr.contains("is not base64 after 'whsec_'"), "{}", refused.stderr);
    assert!(!refused.stderr.contains("Zm9v"), "{}", refused.stderr);
    let help = nowhere(&["receiver", "--help"], &[("receiver_secret", "whsec_Zm9v")]).await.ok().stdout;
    assert!(help.contains("POSTHASTE_RECEIVER_SECRET") && !help.contains("Zm9v"), "{help}");
}

#[tokio::test]
async fn the_test_receiver_verifies_and_counts_and_changes_its_behaviour_while_it_runs() {
    let secret = format!("whsec_{}", "QUJD".repeat(8));
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let receiver = Running::start(&secret, &["--behaviour", "fail-first:1", "--quiet", "--metrics", &free]);
    let (stack, url) = (Stack::new().await, receiver.url.clone());
    stack.endpoint("acme", &format!("{url}/hook"), &["--secret", &secret]).await;
    stack.endpoint("forger", &format!("{url}/hook"), &[]).await;
    stack.run().await;
    stack.emit_many("acme", "order.created", 3).await;
    stack.wait_statuses("delivered", 3).await;
    let forged = stack.emit("forger", "order.created", "{}").await;
    stack.wait_status(forged, "dead").await;
    let stats = async || -> Value { serde_json::from_str(&ask(&url, "GET", "stats", "").await).unwrap() };
    let counted = async |expected: [u64; 5]| {
        // The receiver counts a request a moment after it has answered it.
        let now = async || {
            let stats = stats().await;
            ["ok", "failed", "verified", "rejected", "ids"].map(|name| stats[name].as_u64().unwrap())
        };
        let settled = async || (now().await[..2] == expected[..2]).then_some(());
        eventually(&format!("the receiver counts {expected:?}"), settled).await;
        assert_eq!(now().await, expected);
    };
    // An id without a right signature is nobody's.
    counted([3, 6, 6, 3, 3]).await;
    let metrics = request(&free, "GET", "/metrics", "").await;
    let counts =
        |result: &str| metrics.contains(&format!("posthaste_receiver_verifications_total{{result=\"{result}\"}}"));
    assert!(counts("ok"), "{metrics}");

    assert_eq!(ask(&url, "PUT", "behaviour", "status:503").await, "status:503\n");
    let refused = stack.emit("acme", "order.created", "{}").await;
    assert_eq!(stack.wait_status(refused, "dead").await.last_status_code, Some(503));
    assert!(ask(&url, "PUT", "behaviour", "explode").await.starts_with("behaviour: 'explode' is not known"));
    assert_eq!(ask(&url, "GET", "behaviour", "").await, "status:503\n");
    counted([3, 9, 9, 3, 4]).await;

    let (code, last) = receiver.stop();
    assert_eq!((code, &last["requests"], &last["duplicates"]), (Some(0), &json!(12), &json!(0)));
    let unknown = nowhere(&["receiver", "--behaviour", "explode"], &[]).await;
    assert!(unknown.code == 64 && unknown.stderr.contains("use one of ok, fail-first:N"), "{}", unknown.stderr);
}

/// The body of the answer of one of the receiver's own paths.
async fn ask(url: &str, method: &str, path: &str, body: &str) -> String {
    request(url.strip_prefix("http://").unwrap(), method, &format!("/_control/{path}"), body).await
}

async fn request(host: &str, method: &str, path: &str, body: &str) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut stream = tokio::net::TcpStream::connect(host).await.unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n");
    let request = format!("{head}content-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text.split_once("\r\n\r\n").expect("an answer").1.to_owned()
}
