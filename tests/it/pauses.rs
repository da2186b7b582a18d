//! What keeps an endpoint from being sent to: it is shown, holds for all workers, and can be lifted.

use serde_json::{Value, json};

use crate::harness::{Process, Receiver, Reply, Stack, eventually};

async fn show(stack: &Stack, endpoint: &str) -> Value {
    stack.cli(&["endpoint", "show", endpoint, "--json"]).await.json()
}

/// Waits until the endpoint's pauses have these reasons, and returns them.
async fn wait_pauses(stack: &Stack, endpoint: &str, reasons: &[&str]) -> Value {
    eventually(&format!("the pauses are {reasons:?}"), async || {
        let pauses = show(stack, endpoint).await["pauses"].take();
        let are = pauses.as_array()?.iter().map(|pause| pause["reason"].as_str().unwrap_or_default());
        are.eq(reasons.iter().copied()).then_some(pauses)
    })
    .await
}

async fn wait_gauge(relay: &Process, reason: &str, value: f64) {
    let series = format!("posthaste_endpoint_pauses{{reason=\"{reason}\"}}");
    eventually(&format!("{series} is {value}"), async || {
        (relay.metrics().await.get(&series) == Some(&value)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_pause_that_an_endpoint_asked_for_is_bounded_shown_shared_kept_and_lifted() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/", |_| Reply::status(429).header("retry-after", 86_400));
    let id = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    let endpoint = id.to_string();
    let relay = stack.relay().await;
    let (first, second) = (stack.worker().await, stack.worker().await);
    let refused = stack.emit("acme", "order.created", "{}").await;
    assert_eq!(stack.wait_status(refused, "held").await.attempts, 1);
    let pauses = wait_pauses(&stack, &endpoint, &["slowed"]).await;
    let bounded = "select count(*) from posthaste.endpoints
        where paused_until > now() + interval '59 minutes' and paused_until <= now() + interval '1 hour'";
    assert_eq!(stack.number(bounded).await, 1, "an hour at most: {pauses}");
    wait_gauge(&relay, "slowed", 1.0).await;
    receiver.at("/", |_| Reply::ok());

    // Neither worker sends, and neither does one that knows of nothing but the row.
    stack.emit_many("acme", "order.created", 20).await;
    stack.wait_statuses("held", 21).await;
    first.kill();
    second.kill();
    let third = stack.worker().await;
    stack.emit_many("acme", "order.created", 20).await;
    stack.wait_statuses("held", 41).await;
    stack.wait_relayed().await;
    let again = stack.dead(id, ("acme", "order.created"), "exhausted", 10).await;
    stack.cli(&["requeue", "--event", &again.to_string(), "--yes"]).await.ok();
    stack.wait_status(again, "held").await;
    assert_eq!(receiver.count(), 1);
    let event = stack.cli(&["event", "show", &refused.to_string(), "--json"]).await.json();
    assert_eq!(
        (&event["pauses"][0]["reason"], &event["pauses"][0]["endpoint_id"]),
        (&json!("slowed"), &json!(endpoint))
    );
    let text = stack.cli(&["endpoint", "show", &endpoint]).await.ok().stdout;
    assert!(text.lines().any(|line| line.starts_with("paused") && line.contains("slowed since 20")), "{text}");

    let resumed = stack.cli(&["endpoint", "resume", &endpoint, "--json"]).await.json();

    assert!(!resumed["pauses"].to_string().contains("slowed"), "{resumed}");
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 42)].into());
    assert!(third.metric("posthaste_held_total").await <= 42.0, "what waits does not go round");
    wait_pauses(&stack, &endpoint, &[]).await;
    wait_gauge(&relay, "slowed", 0.0).await;
    let over = |line: &Value| line["message"].as_str()?.starts_with("the endpoint is sent to again").then_some(());
    relay.logged("that the pause is over", over).await;
}

#[tokio::test]
async fn a_worker_that_an_endpoint_asked_for_time_sends_again_once_an_operator_says_so() {
    let (stack, receiver) = (Stack::with(&[("retry.schedule", r#"["1h"]"#)]).await, Receiver::start());
    receiver.at("/", |_| Reply::status(503).header("retry-after", 600));
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    let process = stack.run().await;
    stack.emit("acme", "order.created", "{}").await;
    receiver.wait_for(1).await;
    wait_pauses(&stack, &endpoint, &["slowed"]).await;
    receiver.at("/", |_| Reply::ok());
    let held = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(held, "held").await;

    stack.cli(&["endpoint", "enable", &endpoint]).await.ok();

    stack.wait_status(held, "delivered").await;
    process.logged_message("sent to as before: an operator has lifted its pauses").await;
}

#[tokio::test]
async fn a_pause_that_cannot_be_stored_keeps_no_attempt_from_being_recorded_and_is_shown_all_the_same() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/", |_| Reply::status(429).header("retry-after", 600));
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    stack.run().await;
    let mut operator = stack.db.begin().await.unwrap();
    sqlx::query("select from posthaste.endpoints for update").execute(&mut *operator).await.unwrap();

    let id = stack.emit("acme", "order.created", "{}").await;

    assert_eq!(stack.wait_status(id, "held").await.attempts, 1);
    wait_pauses(&stack, &endpoint, &["slowed"]).await;
    operator.rollback().await.unwrap();
    let stored = "select count(*) from posthaste.endpoints where paused_until is not null";
    assert_eq!(stack.number(stored).await, 0);
    let next = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(next, "held").await;
    assert_eq!(receiver.count(), 1, "the worker keeps to it");
}

#[tokio::test]
async fn what_a_rate_limit_made_wait_comes_at_once_when_it_is_lifted() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &["--rate-limit", "1"]).await.id.to_string();
    stack.run().await;
    // They would take ten minutes.
    stack.emit_many("acme", "order.created", 600).await;
    let late = "select count(*) from posthaste.deliveries where status = 'held' and next_attempt_at > now() + interval '5 minutes'";
    eventually("times are promised", async || (stack.number(late).await > 100).then_some(())).await;
    eventually("it is shown", async || {
        let pauses = show(&stack, &endpoint).await["pauses"].take();
        pauses.as_array()?.iter().any(|pause| pause["reason"] == "rate_limit").then_some(())
    })
    .await;

    stack.cli(&["endpoint", "set", &endpoint, "--rate-limit", "none"]).await.ok();
    stack.cli(&["endpoint", "resume", &endpoint]).await.ok();

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 600)].into());
}

#[tokio::test]
async fn an_open_circuit_is_probed_at_once_when_it_is_lifted() {
    let settings = [
        ("circuit.min_failures", "3"),
        ("circuit.min_duration", "0s"),
        ("circuit.cooldown", "1h"),
        ("circuit.max_cooldown", "1h"),
        ("retry.schedule", r#"["1h", "1h"]"#),
    ];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/", |_| Reply::status(500));
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    stack.run().await;
    stack.emit_many("acme", "order.created", 5).await;
    let pauses = wait_pauses(&stack, &endpoint, &["circuit_open"]).await;
    assert!(pauses[0]["since"].is_string() && pauses[0]["until"].is_string(), "{pauses}");
    receiver.at("/", |_| Reply::ok());
    let after = stack.emit("acme", "order.created", "{}").await;
    assert_eq!(stack.wait_status(after, "held").await.attempts, 0);

    stack.cli(&["endpoint", "resume", &endpoint]).await.ok();

    stack.wait_status(after, "delivered").await;
    wait_pauses(&stack, &endpoint, &[]).await;
}

#[tokio::test]
async fn only_enabling_lifts_that_an_endpoint_is_disabled_and_an_idle_one_needs_no_probe() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    stack.cli(&["endpoint", "disable", &endpoint]).await.ok();
    let pauses = wait_pauses(&stack, &endpoint, &["disabled"]).await;
    assert!(pauses[0]["since"].is_string() && pauses[0]["until"].is_null(), "{pauses}");

    let refused = stack.cli(&["endpoint", "resume", &endpoint]).await;

    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("is disabled; `posthaste endpoint enable`"), "{}", refused.stderr);
    let enabled = stack.cli(&["endpoint", "enable", &endpoint, "--json"]).await.json();
    assert_eq!((&enabled["circuit_state"], &enabled["pauses"]), (&json!("closed"), &json!([])));
}
