//! Seeing one thing: the life of an event, the events that a filter means, and how many more there are.

use serde_json::{Value, json};

use crate::harness::{Receiver, Reply, Stack};

async fn show(stack: &Stack, arguments: &[&str]) -> String {
    stack.cli(arguments).await.ok().stdout
}

#[tokio::test]
async fn the_life_of_an_event_is_told_with_what_the_receiver_said_and_what_comes_next() {
    let settings = [("retry.schedule", r#"["1h", "2h"]"#), ("retry.budget", "1")];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/", |_| Reply::status(503).body("come \u{1b}[2Jback later"));
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    stack.run().await;
    let payload = "{ \"card\":  4111,\n\"raw\": \"\u{9b}31m\" }";
    let event = stack.emit("acme", "order.created", payload).await;
    stack.wait_status(event, "retrying").await;

    let id = event.to_string();
    let told = show(&stack, &["event", "show", &id]).await;
    for part in [
        &format!("endpoint {endpoint}: retrying, 1 of 3 attempts made") as &str,
        "  emitted\n",
        "  claimed by a relay\n",
        "  attempt 1: status 503 after ",
        "answer: come \\u{1b}[2Jback later",
        "waits for its time, in a delay queue of RabbitMQ, until ",
        "at most 3 attempts, fixed when the event was claimed; budget of policy default: 1 retries; 1 left",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    assert!(!told.contains("4111") && !told.contains('\u{1b}'), "{told}");
    let told = show(&stack, &["event", "show", &id, "--payload"]).await;
    assert!(told.contains("{ \"card\":  4111,\n\"raw\": \"\\u{9b}31m\" }"), "{told}");

    let shown = stack.cli(&["event", "show", &id, "--payload", "--json"]).await.json();
    assert_eq!(shown["payload"], json!(payload), "byte for byte");
    let delivery = &shown["deliveries"][0];
    let figures = ["policy", "budget", "attempts_left", "retry_policy"].map(|figure| delivery[figure].clone());
    assert_eq!(figures, [json!("default"), json!(1), json!(1), Value::Null]);
    assert_eq!(delivery["waits_until"], delivery["next_attempt_at"]);
    let nobody = "01a203e0-23fc-705e-8d5e-f952401a4268";
    let refused = stack.cli(&["event", "show", &id, "--endpoint", nobody]).await;
    assert!(refused.code == 1 && refused.stderr.contains("has no delivery to this endpoint"), "{}", refused.stderr);
    assert!(show(&stack, &["event", "show", &id, "--endpoint", &endpoint]).await.contains("attempt 1"));
}

#[tokio::test]
async fn a_delivery_that_is_held_says_for_what_and_one_in_the_outbox_that_nobody_took_it() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    let waiting = stack.emit("acme", "order.created", "{}").await.to_string();
    let told = show(&stack, &["event", "show", &waiting, "--payload"]).await;
    assert!(told.contains("in the outbox, not relayed yet") && told.contains("\n{}\n"), "{told}");
    stack.cli(&["endpoint", "disable", &endpoint]).await.ok();
    stack.relay().await;
    stack.wait_relayed().await;

    let told = show(&stack, &["event", "show", &waiting]).await;

    assert!(told.contains("waits for its endpoint (disabled)") && told.contains("; 3 left"), "{told}");
}

#[tokio::test]
async fn a_dead_letter_is_shown_with_payload_answer_and_the_time_of_death() {
    let (stack, receiver) = (Stack::with(&[("retry.schedule", r#"["50ms"]"#)]).await, Receiver::start());
    receiver.at("/", |_| Reply::status(500).body("no such order"));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let event = stack.emit("acme", "order.created", "{\"n\": 1}").await;
    let dead = stack.wait_status(event, "dead").await;

    let id = event.to_string();
    let told = show(&stack, &["dead", "show", &id, "--payload"]).await;
    for part in ["{\"n\": 1}\n", "answer: no such order", "attempt 2: status 500 after ", "dead letter: exhausted"] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    assert!(!show(&stack, &["dead", "show", &id]).await.contains("\"n\""));
    let shown = stack.cli(&["dead", "show", &id, "--payload", "--json"]).await.json();
    assert_eq!((&shown["payload"], &shown["deliveries"][0]["attempts_left"]), (&json!("{\"n\": 1}"), &json!(0)));
    let died_at = dead.updated_at.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string();
    assert_eq!(stack.dead_letters(1).await[0].header("died-at"), died_at);
}

#[tokio::test]
async fn events_are_found_by_what_became_of_them() {
    let settings = [("retry.schedule", r#"["1h"]"#), ("circuit.enabled", "false")];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/busy", |_| Reply::status(503));
    receiver.at("/broken", |_| Reply::status(500));
    let busy = stack.endpoint("acme", &receiver.url("/busy"), &["--event-types", "order.*"]).await.id.to_string();
    stack.endpoint("acme", &receiver.url("/broken"), &["--event-types", "invoice.*"]).await;
    stack.endpoint("acme", &receiver.url("/ok"), &["--event-types", "order.paid"]).await;
    stack.run().await;
    let mut ids = Vec::new();
    for event_type in ["order.created", "order.paid", "invoice.failed", "other"] {
        ids.push(stack.emit("acme", event_type, "{}").await.to_string());
    }
    stack.wait_statuses("retrying", 3).await;
    stack.wait_statuses("delivered", 1).await;

    let [created, paid, failed, other] = std::array::from_fn(|n| ids[n].as_str());
    let cases: [(&[&str], &[&str]); 9] = [
        (&["--status", "delivered"], &[paid]),
        (&["--status", "retrying"], &[failed, paid, created]),
        (&["--endpoint", &busy], &[paid, created]),
        (&["--code", "503"], &[paid, created]),
        (&["--code", "500", "--status", "retrying"], &[failed]),
        // Of one and the same delivery.
        (&["--code", "503", "--status", "delivered"], &[]),
        (&["--like", "*.failed"], &[failed]),
        (&["--like", "order.*", "--type", "order.paid"], &[paid]),
        (&["--before", failed], &[paid, created]),
    ];
    for (arguments, expected) in cases {
        let listed = stack.cli(&[&["event", "list", "--json"], arguments].concat()).await.json();
        let found: Vec<&str> = listed.as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap()).collect();
        assert_eq!(found, expected, "{arguments:?}");
    }
    let all = stack.cli(&["event", "list", "--json"]).await.json();
    let states = |id: &str| all.as_array().unwrap().iter().find(|e| e["id"] == id).unwrap()["deliveries"].clone();
    let counted = [other, failed, paid, created].map(states);
    let expected = [json!({}), json!({"retrying": 1}), json!({"delivered": 1, "retrying": 1}), json!({"retrying": 1})];
    assert_eq!(counted, expected);
    let table = stack.cli(&["event", "list"]).await.ok().stdout;
    assert!(table.contains("1 delivered, 1 retrying") && table.contains(" none "), "{table}");
    let until = stack.cli(&["event", "list", "--until", "1h", "--json"]).await.json();
    assert_eq!((until, other.len()), (json!([]), 36));
    for (arguments, said) in [
        (["--status", "lost"], "use one of pending, retrying, held, delivered, dead"),
        (["--like", "order-*"], "like 'order.*' or '*.failed'"),
        (["--endpoint", "17"], "ids are UUIDs"),
    ] {
        let refused = stack.cli(&[&["event", "list"], &arguments[..]].concat()).await;
        assert!(refused.code == 64 && refused.stderr.contains(said), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn a_list_says_how_much_is_left_and_how_to_see_it() {
    let stack = Stack::new().await;
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let mut ids = Vec::new();
    for _ in 0..7 {
        ids.push(stack.dead(endpoint, ("acme", "order.created"), "exhausted", 10).await.to_string());
    }
    let first = stack.cli(&["event", "list", "--limit", "3", "--json"]).await.ok();
    assert_eq!(first.stdout.matches("\"id\"").count(), 3);
    let said = format!("4 more; the next page: --before {}", ids[4]);
    assert!(first.stderr.contains(&said), "{}", first.stderr);
    let next = stack.cli(&["event", "list", "--before", &ids[4], "--limit", "4"]).await.ok();
    assert!(ids[..4].iter().all(|id| next.stdout.contains(id)) && !next.stderr.contains("more"), "{next:?}");
    let dead = stack.cli(&["dead", "list", "--limit", "3"]).await.ok();
    assert!(dead.stderr.contains("4 more; --limit shows more"), "{}", dead.stderr);
    assert!(!stack.cli(&["dead", "list"]).await.ok().stderr.contains("more"));

    stack
        .execute(
            "insert into posthaste.events (id, tenant, event_type, payload, created_at)
             select posthaste.uuid_v7(), 'acme', 'order.created', '{}', now() from generate_series(1, 1200)",
        )
        .await;
    let many = stack.cli(&["event", "list", "--limit", "3"]).await.ok();
    assert!(many.stderr.contains("1000 or more; the next page"), "{}", many.stderr);
}
