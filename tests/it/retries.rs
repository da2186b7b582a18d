//! What becomes of a delivery whose receiver fails: retried on schedule, given up for good, or held until later.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::harness::{Attempt, Receiver, Reply, Request, Stack};

const SECOND: Duration = Duration::from_secs(1);

fn gaps(requests: &[Request]) -> Vec<Duration> {
    requests.windows(2).map(|pair| pair[1].at - pair[0].at).collect()
}

/// The time between the end of an attempt and the next one that was planned, in milliseconds.
fn planned_ms(attempt: &Attempt) -> i64 {
    let due = attempt.next_attempt_at.expect("a next attempt");
    (due - attempt.started_at).num_milliseconds() - i64::from(attempt.duration_ms)
}

#[tokio::test]
async fn a_receiver_that_fails_a_few_times_gets_the_event_in_the_end() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/once", |n| if n <= 1 { Reply::status(500) } else { Reply::ok() });
    receiver.at("/twice", |n| if n <= 2 { Reply::reset() } else { Reply::status(204) });
    let once = stack.endpoint("one", &receiver.url("/once"), &[]).await;
    stack.endpoint("two", &receiver.url("/twice"), &[]).await;
    stack.run().await;
    let one = stack.emit("one", "order.created", "{}").await;
    let two = stack.emit("two", "order.created", "{}").await;

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 2)].into());

    let (first, second) = (stack.delivery(one).await, stack.delivery(two).await);
    assert_eq!((first.attempts, first.last_status_code, first.last_error), (2, Some(200), None));
    assert_eq!((second.attempts, second.last_status_code, second.next_attempt_at), (3, Some(204), None));
    assert_eq!(first.endpoint_id, once.id);
    let outcomes: Vec<_> = stack.attempts(two).await.iter().map(|a| (a.outcome.clone(), a.error.clone())).collect();
    let reset = ("retry".to_owned(), Some("connection reset".to_owned()));
    assert_eq!(outcomes, [reset.clone(), reset, ("delivered".to_owned(), None)]);
    assert_eq!(receiver.requests_to("/once").len(), 2);
    let delays = gaps(&receiver.requests_to("/twice"));
    assert!(delays[0] >= Duration::from_millis(290) && delays[1] >= Duration::from_millis(590), "{delays:?}");
    assert_eq!(
        receiver.requests_to("/twice").iter().map(|r| r.header("posthaste-attempt").to_owned()).collect::<Vec<_>>(),
        ["1", "2", "3"]
    );
    assert_eq!(stack.depth("dead").await, 0);
}

#[tokio::test]
async fn a_receiver_that_always_fails_makes_a_readable_dead_letter_after_all_attempts() {
    let stack = Stack::with(&[("retry.jitter_bps", "2000"), ("retry.slots", "2")]).await;
    let receiver = Receiver::start();
    receiver.at("/", |_| Reply::status(503).header("x-reason", "maintenance").body("try later"));
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &["--header", "X-Api-Key: hunter2"]).await;
    stack.run().await;
    let payload = "{ \"n\": 1.10,\n\"text\": \"\\u00e9\" }";

    let id = stack.emit("acme", "order.created", payload).await;

    assert_eq!(stack.wait_settled().await, [("dead".to_owned(), 1)].into());
    let delivery = stack.delivery(id).await;
    assert_eq!((delivery.attempts, delivery.max_attempts, delivery.base_attempts), (3, 3, 0));
    assert_eq!((delivery.dead_reason.as_deref(), delivery.next_attempt_at), (Some("exhausted"), None));
    assert_eq!((delivery.last_status_code, delivery.last_error.as_deref()), (Some(503), Some("status 503")));
    assert_eq!(receiver.count(), 3);
    attempts_table_is_full(&stack.attempts(id).await);

    let dead_letter = &stack.dead_letters(1).await[0];
    assert_eq!(dead_letter.body, payload.as_bytes());
    let properties = &dead_letter.properties;
    assert_eq!(properties.message_id().as_ref().unwrap().as_str(), id.to_string());
    assert_eq!(properties.kind().as_ref().unwrap().as_str(), "order.created");
    assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "posthaste");
    assert_eq!(properties.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(*properties.delivery_mode(), Some(2));
    let expected = [
        ("endpoint-id", endpoint.id.to_string().as_str()),
        ("tenant", "acme"),
        ("attempt", "3"),
        ("attempts", "3"),
        ("max-attempts", "3"),
        ("base-attempts", "0"),
        ("dead-reason", "exhausted"),
        ("last-status-code", "503"),
        ("last-error", "status 503"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut own: BTreeMap<String, String> =
        dead_letter.headers.clone().into_iter().filter(|(name, _)| !name.starts_with("x-")).collect();
    assert!(own.remove("died-at").is_some_and(|at| at.ends_with('Z')), "{own:?}");
    assert_eq!(own, expected.into(), "beside the broker's own headers");
}

fn attempts_table_is_full(attempts: &[Attempt]) {
    assert_eq!(attempts.iter().map(|a| a.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(attempts.iter().map(|a| a.outcome.as_str()).collect::<Vec<_>>(), ["retry", "retry", "dead"]);
    for (attempt, base) in attempts.iter().zip([300.0, 600.0]) {
        let planned = planned_ms(attempt) as f64;
        // Settling comes a moment after the response.
        assert!(planned >= base * 0.8 - 1.0 && planned <= base * 1.2 + 500.0, "{planned} ms after attempt {attempt:?}");
    }
    assert_eq!(attempts[2].next_attempt_at, None);
    for attempt in attempts {
        assert_eq!((attempt.status_code, attempt.error.as_deref()), (Some(503), Some("status 503")));
        assert_eq!(attempt.response_body.as_deref(), Some("try later"));
        assert_eq!(attempt.response_headers["x-reason"], json!("maintenance"));
        assert_eq!(attempt.request_headers["X-Api-Key"], json!("[redacted]"));
        assert!(attempt.request_headers["webhook-signature"].as_str().unwrap().starts_with("v1,"));
        assert!(!attempt.worker.is_empty() && attempt.duration_ms >= 0);
    }
    assert!(attempts.windows(2).all(|pair| pair[0].started_at < pair[1].started_at));
}

#[tokio::test]
async fn the_retry_budget_lowers_the_number_of_attempts_without_touching_rows() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/", |_| Reply::status(500));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    let id = stack.emit("acme", "order.created", "{}").await;
    stack.wait_relayed().await;
    let before = stack.delivery(id).await;
    assert_eq!((before.max_attempts, before.status.as_str()), (3, "pending"));

    stack.start("worker", &[("retry.budget", "1")]).await;

    let delivery = stack.wait_status(id, "dead").await;
    assert_eq!((delivery.attempts, delivery.max_attempts), (2, 3));
    assert_eq!((delivery.dead_reason.as_deref(), receiver.count()), (Some("exhausted"), 2));
}

#[tokio::test]
async fn the_producer_can_ask_for_fewer_attempts_but_not_for_more() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/", |_| Reply::status(500));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    for (asked, made) in [(1, 1), (2, 2), (9, 3)] {
        let emit = "select posthaste.emit('acme', 'order.created', '{}', max_attempts => $1)";
        let id = sqlx::query_scalar(emit).bind(asked).fetch_one(&stack.db).await.unwrap();
        let delivery = stack.wait_status(id, "dead").await;
        assert_eq!((delivery.max_attempts, delivery.attempts), (made, made), "asked for {asked}");
    }
}

#[tokio::test]
async fn permanent_status_codes_and_gone_are_not_retried() {
    let (stack, receiver) = (Stack::with(&[("retry.permanent_status_codes", "[400, 422]")]).await, Receiver::start());
    receiver.at("/invalid", |_| Reply::status(422));
    receiver.at("/gone", |_| Reply::status(410));
    let invalid = stack.endpoint("acme", &receiver.url("/invalid"), &["--event-types", "a"]).await;
    let gone = stack.endpoint("acme", &receiver.url("/gone"), &["--event-types", "b"]).await;
    stack.run().await;
    let first = stack.emit("acme", "a", "{}").await;
    let second = stack.emit("acme", "b", "{}").await;
    stack.wait_settled().await;

    assert_eq!(stack.delivery(first).await.dead_reason.as_deref(), Some("permanent_status"));
    assert_eq!(stack.delivery(second).await.dead_reason.as_deref(), Some("gone"));
    assert_eq!(receiver.count(), 2);
    let show = async |id: uuid::Uuid| stack.cli(&["endpoint", "show", &id.to_string(), "--json"]).await.json();
    assert_eq!(show(invalid.id).await["status"], json!("enabled"));
    let disabled = show(gone.id).await;
    assert_eq!(disabled["status"], json!("disabled"));
    assert_eq!(disabled["disabled_reason"], json!("the endpoint answered 410"));
    let third = stack.emit("acme", "b", "{}").await;
    let held = stack.wait_status(third, "held").await;
    assert_eq!((held.attempts, receiver.count()), (0, 2));
    let mut reasons: Vec<String> =
        stack.dead_letters(2).await.iter().map(|l| l.header("dead-reason").to_owned()).collect();
    reasons.sort();
    assert_eq!(reasons, ["gone", "permanent_status"]);
}

#[tokio::test]
async fn retry_after_is_a_floor_and_a_time_that_no_queue_covers_is_held_until_then() {
    let stack = Stack::with(&[("retry.schedule", r#"["200ms", "1100ms"]"#)]).await;
    let receiver = Receiver::start();
    // One second: the queue of 1100 ms covers it. Two seconds: none does.
    receiver.at("/short", |n| if n == 1 { Reply::status(429).header("retry-after", 1) } else { Reply::ok() });
    receiver.at("/long", |n| if n == 1 { Reply::status(503).header("retry-after", 2) } else { Reply::ok() });
    // Only 429 and 503 may ask for a wait.
    receiver.at("/other", |n| if n == 1 { Reply::status(500).header("retry-after", 30) } else { Reply::ok() });
    receiver
        .at("/date", |n| if n == 1 { Reply::status(503).header("retry-after", in_two_seconds()) } else { Reply::ok() });
    let paths = ["short", "long", "other", "date"];
    for path in paths {
        stack.endpoint(path, &receiver.url(&format!("/{path}")), &[]).await;
    }
    let run = stack.run().await;
    let mut ids = Vec::new();
    for path in paths {
        ids.push(stack.emit(path, "order.created", "{}").await);
    }
    let held = stack.wait_status(ids[1], "held").await;
    assert_eq!(held.attempts, 1, "the attempt was made and counts");
    assert_eq!(stack.attempts(ids[1]).await[0].outcome, "retry");

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 4)].into());

    let gap = |path: &str| gaps(&receiver.requests_to(path))[0];
    assert!(gap("/short") >= Duration::from_millis(1090), "{:?}", gap("/short"));
    assert!(gap("/long") >= Duration::from_millis(1990), "{:?}", gap("/long"));
    let of_other = |line: &Value| line["event_id"] == json!(ids[2]) && line["attempt"] == json!(1);
    let retry_in = run.logged("the first attempt", |line| of_other(line).then(|| line["retry_in_ms"].as_i64())).await;
    assert!(retry_in.is_some_and(|ms| ms < 1_000), "Retry-After counts on 429 and 503 only: {retry_in:?}");
    // An HTTP date has whole seconds.
    assert!(gap("/date") >= Duration::from_millis(900), "{:?}", gap("/date"));
    for id in ids {
        assert_eq!(stack.delivery(id).await.attempts, 2);
    }
}

fn in_two_seconds() -> String {
    httpdate::fmt_http_date(SystemTime::now() + 2 * SECOND)
}

#[tokio::test]
async fn retry_after_is_capped() {
    let (stack, receiver) = (Stack::with(&[("retry.max_retry_after", "400ms")]).await, Receiver::start());
    receiver.at("/", |n| if n == 1 { Reply::status(429).header("retry-after", 86_400) } else { Reply::ok() });
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;

    let id = stack.emit("acme", "order.created", "{}").await;

    stack.wait_status(id, "delivered").await;
    let gap = gaps(&receiver.requests())[0];
    assert!((Duration::from_millis(390)..10 * SECOND).contains(&gap), "{gap:?}");
}

#[tokio::test]
async fn an_endpoint_may_have_a_retry_policy_of_its_own() {
    let settings = [
        ("retry.policies.brief.schedule", r#"["100ms"]"#),
        ("retry.policies.strict.permanent_status_codes", "[500]"),
        ("retry.policies.thrifty.budget", "1"),
    ];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/", |_| Reply::status(500));
    let policies = [("brief", 2, 2, "exhausted"), ("strict", 1, 3, "permanent_status"), ("thrifty", 2, 3, "exhausted")];
    for (policy, ..) in policies {
        stack.endpoint(policy, &receiver.url("/"), &["--retry-policy", policy]).await;
    }
    stack.run().await;
    for (policy, made, ceiling, reason) in policies {
        let id = stack.emit(policy, "order.created", "{}").await;
        let dead = stack.wait_status(id, "dead").await;
        assert_eq!(
            (dead.attempts, dead.max_attempts, dead.dead_reason.as_deref()),
            (made, ceiling, Some(reason)),
            "{policy}"
        );
    }
    let unknown = ["endpoint", "add", "--tenant", "x", "--url", "https://example.com", "--retry-policy", "nope"];
    let refused = stack.cli(&unknown).await;
    assert_eq!(refused.code, 64);
    assert!(refused.stderr.contains("retry-policy: 'nope' is not configured"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let elsewhere = receiver.url("/elsewhere");
    receiver.at("/", move |_| Reply::status(307).header("location", &elsewhere));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;

    let id = stack.emit("acme", "order.created", "{}").await;

    let dead = stack.wait_status(id, "dead").await;
    assert_eq!((dead.attempts, dead.last_status_code), (3, Some(307)));
    assert!(receiver.requests_to("/elsewhere").is_empty());
}

#[tokio::test]
async fn the_time_out_covers_waiting_and_the_whole_response_body() {
    let (stack, receiver) = (Stack::with(&[("retry.schedule", r#"["50ms"]"#)]).await, Receiver::start());
    receiver.at("/hang", |_| Reply::hang());
    receiver.at("/drip", |_| Reply::drip());
    receiver.at("/reset", |_| Reply::reset());
    let cases = [
        ("hang", "time-out while waiting for the response", None),
        ("drip", "time-out while reading the response body", None),
        ("reset", "connection reset", None),
        ("refused", "connection refused", None),
    ];
    for (case, ..) in cases {
        let url = if case == "refused" { "http://127.0.0.1:9/".into() } else { receiver.url(&format!("/{case}")) };
        stack.endpoint(case, &url, &["--timeout", "300ms"]).await;
    }
    stack.run().await;
    let mut ids = Vec::new();
    for (case, ..) in cases {
        ids.push(stack.emit(case, "order.created", "{}").await);
    }

    assert_eq!(stack.wait_settled().await, [("dead".to_owned(), 4)].into());

    for (id, (case, error, code)) in ids.into_iter().zip(cases) {
        let attempts = stack.attempts(id).await;
        assert_eq!(attempts.len(), 2, "{case}");
        for attempt in attempts {
            assert_eq!((attempt.error.as_deref(), attempt.status_code), (Some(error), code), "{case}");
            assert!(attempt.duration_ms < 3_000, "{case}: {} ms", attempt.duration_ms);
            assert!(!error.starts_with("time-out") || attempt.duration_ms >= 300, "{case}");
        }
    }
}
