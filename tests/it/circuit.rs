//! The circuit of an endpoint that keeps failing: opening, probing, closing, and what becomes of its deliveries meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use crate::harness::{Door, Receiver, Reply, Stack, eventually};

/// Opens after five failures. When it is looked at again, the test says.
const QUICK: [(&str, &str); 6] = [
    ("circuit.min_failures", "5"),
    ("circuit.min_duration", "200ms"),
    ("circuit.cooldown", "1h"),
    ("circuit.max_cooldown", "1h"),
    ("retry.schedule", r#"["300ms", "300ms", "300ms", "300ms", "300ms", "300ms", "300ms", "300ms", "300ms"]"#),
    ("relay.release_rate", "500"),
];

/// An endpoint at "/" that answers 500 until it is repaired.
struct Patient(Arc<AtomicBool>);

impl Patient {
    fn at(receiver: &Receiver) -> Patient {
        let well = Arc::new(AtomicBool::new(false));
        let state = well.clone();
        receiver.at("/", move |_| if state.load(Ordering::Relaxed) { Reply::ok() } else { Reply::status(500) });
        Patient(well)
    }

    fn repair(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn show(stack: &Stack, endpoint: &str) -> Value {
    stack.cli(&["endpoint", "show", endpoint, "--json"]).await.json()
}

/// The cool-down of every open circuit is over.
async fn cooled_down(stack: &Stack) {
    stack.execute("update posthaste.endpoints set circuit_until = now() where circuit_state = 'open'").await;
}

async fn wait_circuit(stack: &Stack, state: &'static str) {
    let query = "select circuit_state from posthaste.endpoints";
    eventually(&format!("the circuit is {state}"), async || {
        let is: String = sqlx::query_scalar(query).fetch_one(&stack.db).await.ok()?;
        (is == state).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_failing_endpoint_is_left_alone_then_probed_and_its_backlog_delivered() {
    let (stack, receiver) = (Stack::with(&QUICK).await, Receiver::start());
    let patient = Patient::at(&receiver);
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    let relay = stack.relay().await;
    stack.worker().await;
    stack.emit_many("acme", "order.created", 20).await;
    wait_circuit(&stack, "open").await;
    stack.wait_statuses("held", 20).await;
    let tried = receiver.count();

    // What is committed meanwhile goes neither to the endpoint nor through the broker.
    stack.emit_many("acme", "order.created", 200).await;
    stack.wait_statuses("held", 220).await;
    assert_eq!((stack.depth("deliver").await, stack.depth("retry").await), (0, 0));
    assert_eq!(receiver.count(), tried, "nothing is sent while it is open");
    eventually("the gauge shows it", async || {
        (relay.metric("posthaste_endpoints_circuit_open").await == 1.0).then_some(())
    })
    .await;
    let shown = eventually("the worker has reported", async || {
        let shown = show(&stack, &endpoint).await;
        (shown["last_error"] == "status 500").then_some(shown)
    })
    .await;
    assert_eq!((&shown["circuit_state"], &shown["held"]), (&json!("open"), &json!(220)));
    assert!(shown["recent_failure_share"].as_f64() > Some(0.9) && shown["last_error_at"].is_string(), "{shown}");
    let untouched = "select count(*) from posthaste.deliveries where status = 'held' and attempts = 0";
    assert!(stack.number(untouched).await >= 200, "holding spends no attempt");

    // Half open, few are sent; it is still broken, so the circuit opens again.
    cooled_down(&stack).await;
    receiver.wait_for(tried + 1).await;
    wait_circuit(&stack, "open").await;
    assert!(receiver.count() <= tried + 3, "{} probes", receiver.count() - tried);

    patient.repair();
    cooled_down(&stack).await;
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 220)].into());
    wait_circuit(&stack, "closed").await;
    assert_eq!(show(&stack, &endpoint).await["held"], json!(0));
}

#[tokio::test]
async fn an_open_circuit_is_known_to_every_worker_and_outlives_them() {
    let (stack, receiver) = (Stack::with(&QUICK).await, Receiver::start());
    let patient = Patient::at(&receiver);
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    let (first, second) = (stack.worker().await, stack.worker().await);
    stack.emit_many("acme", "order.created", 40).await;
    wait_circuit(&stack, "open").await;
    stack.wait_statuses("held", 40).await;
    let tried = receiver.count();
    first.kill();
    second.kill();
    stack.worker().await;

    let id = stack.emit("acme", "order.created", "{}").await;

    assert_eq!(stack.wait_status(id, "held").await.attempts, 0);
    assert_eq!(receiver.count(), tried);
    patient.repair();
    cooled_down(&stack).await;
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 41)].into());
}

#[tokio::test]
async fn enabling_probes_first_and_releases_the_rest_when_that_succeeds() {
    let (stack, receiver) = (Stack::with(&QUICK).await, Receiver::start());
    let patient = Patient::at(&receiver);
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    stack.cli(&["endpoint", "disable", &endpoint]).await.ok();
    stack.run().await;
    stack.emit_many("acme", "order.created", 100).await;
    stack.wait_statuses("held", 100).await;

    let enabled = stack.cli(&["endpoint", "enable", &endpoint, "--json"]).await.json();

    assert_eq!(enabled["status"], "enabled");
    assert_ne!(enabled["circuit_state"], "closed", "half open, or open again already");
    receiver.wait_for(1).await;
    wait_circuit(&stack, "open").await;
    assert!(receiver.count() <= 3, "{} requests to an endpoint that is still broken", receiver.count());
    patient.repair();
    stack.cli(&["endpoint", "enable", &endpoint]).await.ok();
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 100)].into());
}

#[tokio::test]
async fn a_probe_from_before_an_operator_enabled_the_endpoint_does_not_open_its_circuit_again() {
    enabled_during_a_probe(async |stack, _| {
        // What another worker's failed probe does.
        let opened = "update posthaste.endpoints set circuit_state = 'open', circuit_trips = circuit_trips + 1,
                             circuit_until = now() + interval '1 hour'";
        stack.execute(opened).await;
    })
    .await;
}

#[tokio::test]
async fn nor_does_one_from_before_it_was_disabled_and_enabled() {
    enabled_during_a_probe(async |stack, endpoint| {
        stack.cli(&["endpoint", "disable", endpoint]).await.ok();
    })
    .await;
}

/// The first probe of an endpoint fails only when something has happened to it and it has been enabled since.
async fn enabled_during_a_probe(happens: impl AsyncFn(&Stack, &str)) {
    let (stack, receiver, door) = (Stack::with(&QUICK).await, Receiver::start(), Door::closed());
    let (first, still_broken) = (AtomicBool::new(true), door.clone());
    receiver.at("/", move |_| match first.swap(false, Ordering::Relaxed) {
        true => Reply::status(500).behind(&still_broken),
        false => Reply::ok(),
    });
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    stack.cli(&["endpoint", "disable", &endpoint]).await.ok();
    stack.run().await;
    stack.emit_many("acme", "order.created", 20).await;
    stack.wait_statuses("held", 20).await;
    stack.cli(&["endpoint", "enable", &endpoint]).await.ok();
    receiver.wait_for(1).await;

    happens(&stack, &endpoint).await;
    stack.cli(&["endpoint", "enable", &endpoint]).await.ok();
    door.open();

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 20)].into());
    assert_eq!(show(&stack, &endpoint).await["circuit_state"], "closed");
}

#[tokio::test]
async fn an_endpoint_whose_circuit_does_not_close_for_too_long_is_disabled_with_the_reason() {
    let (stack, receiver) = (Stack::with(&QUICK).await, Receiver::start());
    Patient::at(&receiver);
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    stack.run().await;
    stack.emit_many("acme", "order.created", 20).await;
    wait_circuit(&stack, "open").await;

    stack.execute("update posthaste.endpoints set circuit_opened_at = now() - interval '6 days'").await;

    let disabled = eventually("it is disabled", async || {
        let shown = show(&stack, &endpoint).await;
        (shown["status"] == "disabled").then_some(shown)
    })
    .await;
    let reason = disabled["disabled_reason"].as_str().unwrap_or_default();
    assert!(reason.starts_with("the circuit has been open since 20"), "{reason}");
    stack.wait_statuses("held", 20).await;
}

#[tokio::test]
async fn what_is_held_for_too_long_dies_visibly_and_can_be_requeued() {
    let (stack, receiver) = (Stack::with(&[("delivery.held_ttl", "1s")]).await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    stack.cli(&["endpoint", "disable", &endpoint]).await.ok();
    stack.run().await;

    let id = stack.emit("acme", "order.created", "{}").await;

    let dead = stack.wait_status(id, "dead").await;
    assert_eq!((dead.dead_reason.as_deref(), dead.attempts), (Some("expired"), 0));
    assert_eq!(stack.dead_letters(1).await[0].header("dead-reason"), "expired");
    stack.cli(&["endpoint", "enable", &endpoint]).await.ok();
    stack.age_the_dead().await;
    stack.cli(&["requeue", "--reason", "expired", "--yes"]).await.ok();
    assert_eq!(stack.wait_status(id, "delivered").await.attempts, 1);
}

#[tokio::test]
async fn with_circuits_off_an_endpoint_is_tried_to_the_end_and_an_open_circuit_is_closed() {
    let settings = [("circuit.enabled", "false"), ("retry.schedule", r#"["300ms"]"#)];
    let (stack, receiver) = (Stack::with(&QUICK).await, Receiver::start());
    Patient::at(&receiver);
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack
        .execute("update posthaste.endpoints set circuit_state = 'open', circuit_until = now() + interval '1 hour'")
        .await;
    stack.start("run", &settings).await;
    wait_circuit(&stack, "closed").await;

    stack.emit_many("acme", "order.created", 30).await;

    assert_eq!(stack.wait_settled().await, [("dead".to_owned(), 30)].into());
    assert_eq!(receiver.count(), 60);
}

/// The time that a circuit needs to open is never over.
const PATIENT: [(&str, &str); 4] = [
    ("circuit.min_failures", "5"),
    ("circuit.min_duration", "1h"),
    ("retry.jitter_bps", "0"),
    ("relay.release_rate", "500"),
];

#[tokio::test]
async fn what_keeps_failing_waits_in_postgresql_for_its_retry_and_not_in_a_delay_queue() {
    let settings = [&PATIENT[..], &[("retry.schedule", r#"["1h"]"#)]].concat();
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    let patient = Patient::at(&receiver);
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    let worker = stack.worker().await;

    stack.emit_many("acme", "order.created", 50).await;
    stack.wait_statuses("held", 45).await;

    stack.wait_statuses("retrying", 5).await;
    stack.wait_depth("delay.3600000", 5).await;
    eventually("the metric says why", async || {
        let (metrics, key) = (worker.metrics().await, r#"posthaste_held_total{reason="circuit"}"#);
        (metrics.get(key) == Some(&45.0)).then_some(())
    })
    .await;
    let right = "select count(*) from posthaste.deliveries d join posthaste.attempts a using (event_id, endpoint_id)
                  where d.attempts = 1 and d.next_attempt_at between now() + interval '55 min' and now() + interval '1 h'
                    and (a.attempt, a.outcome, a.next_attempt_at) = (1, 'retry', d.next_attempt_at)";
    assert_eq!(stack.number(right).await, 50, "the attempt counts, and the retry has its time");
    assert_eq!(receiver.count(), 50);

    patient.repair();
    stack.execute("update posthaste.deliveries set next_attempt_at = now() where status = 'held'").await;
    stack.wait_statuses("delivered", 45).await;
    assert_eq!(receiver.count(), 95);
}

#[tokio::test]
async fn what_keeps_failing_is_tried_on_its_schedule_to_the_end() {
    let settings = [&PATIENT[..], &[("retry.schedule", r#"["300ms", "300ms"]"#)]].concat();
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    Patient::at(&receiver);
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    stack.worker().await;

    // Retries of an endpoint that takes nothing are let go by eights.
    let events = stack.emit_many("acme", "order.created", 100).await;

    assert_eq!(stack.wait_settled().await, [("dead".to_owned(), 100)].into());
    assert_eq!(receiver.count(), 300, "three attempts each");
    let exhausted = "select count(*) from posthaste.deliveries where dead_reason = 'exhausted' and attempts = 3";
    assert_eq!(stack.number(exhausted).await, 100);
    assert_eq!(stack.dead_letters(events.len() as u32).await.len(), 100);
}
