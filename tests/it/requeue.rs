//! Requeue: dead deliveries get a fresh set of attempts, and the dead-letter queue then holds what is still dead.

use std::collections::BTreeSet;
use std::time::Duration;

use lapin::BasicProperties;
use serde_json::json;
use uuid::Uuid;

use crate::harness::{DeadLetter, Delivery, Proxy, Receiver, Reply, Stack, eventually};

const ALL: [&str; 4] = ["requeue", "--all", "--yes", "--json"];

fn ids(dead_letters: &[DeadLetter]) -> BTreeSet<String> {
    let id = |dead_letter: &DeadLetter| dead_letter.properties.message_id().as_ref().unwrap().to_string();
    dead_letters.iter().map(id).collect()
}

/// Events whose deliveries have this status.
async fn with_status(stack: &Stack, status: &str) -> BTreeSet<Uuid> {
    stack.deliveries().await.into_iter().filter(|d| d.status == status).map(|d| d.event_id).collect()
}

#[tokio::test]
async fn after_the_receiver_heals_a_requeue_delivers_everything_and_empties_the_dead_letter_queue() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/", |_| Reply::status(500));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let events = stack.emit_many("acme", "order.created", 40).await;
    assert_eq!(stack.wait_settled().await, [("dead".to_owned(), 40)].into());
    let before = stack.dead_letters(40).await;
    assert_eq!(ids(&before), events.iter().map(Uuid::to_string).collect());
    stack.age_the_dead().await;
    receiver.at("/", |_| Reply::ok());

    let report = stack.cli(&ALL).await.json();

    assert_eq!((&report["matched"], &report["requeued"], &report["dry_run"]), (&json!(40), &json!(40), &json!(false)));
    assert_eq!(report["letters"], json!({"kept": 0, "dropped": 40, "written": 0, "refused": 0, "erased": 0}));
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 40)].into());
    stack.wait_depth("dead", 0).await;
    for delivery in stack.deliveries().await {
        assert_eq!((delivery.attempts, delivery.base_attempts, delivery.dead_reason), (4, 3, None));
    }
    let history = stack.attempts(events[0]).await;
    assert_eq!(history.iter().map(|a| a.attempt).collect::<Vec<_>>(), [1, 2, 3, 4]);
    let outcomes: Vec<&str> = history.iter().map(|a| a.outcome.as_str()).collect();
    assert_eq!(outcomes, ["retry", "retry", "dead", "delivered"]);
    let again = stack.cli(&ALL).await.json();
    assert_eq!((&again["matched"], &again["requeued"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_requeue_that_was_killed_midway_is_simply_run_again_and_two_never_run_at_once() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let healed = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    let other = stack.endpoint("other", &receiver.url("/"), &[]).await.id;
    stack.run().await;
    for _ in 0..60 {
        stack.dead(healed, ("acme", "order.created"), "exhausted", 10).await;
    }
    let mut stay_dead = BTreeSet::new();
    for _ in 0..10 {
        stay_dead.insert(stack.dead(other, ("other", "order.created"), "exhausted", 10).await.to_string());
    }
    // Writes their dead letters.
    stack.cli(&["reconcile"]).await.ok();
    stack.wait_depth("dead", 70).await;
    let these = ["requeue", "--tenant", "acme", "--yes", "--json"];

    let first = stack.spawn_command(&[&these[..], &["--rate", "5"]].concat(), &[]);
    receiver.wait_for(15).await;
    let second = stack.cli(&these).await;
    assert_eq!(second.code, 1);
    assert!(second.stderr.contains("another requeue is running"), "{}", second.stderr);
    assert!(first.is_running(), "it was not finished");
    first.kill();
    let left = stack.statuses().await["dead"];
    assert!((11..60).contains(&left), "{left} are still dead");
    // The server may need a moment to notice that the first one is gone.
    let report = eventually("the next one may run", async || {
        let done = stack.cli(&these).await;
        (done.code == 0).then(|| done.json())
    })
    .await;

    assert_eq!(report["requeued"], json!(left - 10));
    let statuses = stack.wait_settled().await;
    assert_eq!(statuses, [("dead".to_owned(), 10), ("delivered".to_owned(), 60)].into());
    assert_eq!(ids(&stack.dead_letters(10).await), stay_dead);
    let counts = receiver.counts();
    assert_eq!((counts.len(), receiver.count()), (60, 60), "none was lost, and none came twice");
    assert!(stack.deliveries().await.iter().all(|d| d.status == "dead" || (d.attempts, d.base_attempts) == (2, 1)));
}

#[tokio::test]
async fn a_requeue_that_loses_the_broker_says_so_and_what_it_granted_is_delivered_all_the_same() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    stack.run().await;
    for _ in 0..60 {
        stack.dead(endpoint, ("acme", "order.created"), "exhausted", 10).await;
    }
    let proxy = Proxy::to(&stack.binary.amqp_url);
    let by_proxy = [("broker.url", &*proxy.url(&stack.binary.amqp_url))];
    let requeue = stack.spawn_command(&["requeue", "--all", "--yes", "--rate", "10"], &by_proxy);
    receiver.wait_for(10).await;

    proxy.cut();

    assert_eq!(requeue.exit_code().await, Some(1));
    eventually("the reason", async || requeue.log().contains("nothing is lost: what was granted").then_some(())).await;
    let granted = stack.number("select count(*) from posthaste.deliveries where base_attempts = 1").await;
    assert!((11..60).contains(&granted), "{granted} were granted");
    let listed = "select count(*) from posthaste.relay_batches";
    eventually("a relay has adopted the batch", async || (stack.number(listed).await == 0).then_some(())).await;
    stack.wait_statuses("delivered", granted).await;
    let account =
        "select count(*) from posthaste.requeues where error like 'publishing failed%' or error like '%broker%'";
    assert_eq!(stack.number(account).await, 1, "the account has the reason");
    assert_eq!(stack.cli(&ALL).await.json()["requeued"], json!(60 - granted));
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 60)].into());
    assert!(stack.deliveries().await.iter().all(|delivery| delivery.attempts == 2), "no attempt was spent on it");
}

#[tokio::test]
async fn a_delivery_that_dies_again_had_a_fresh_set_of_attempts_and_has_one_current_letter() {
    let stack = Stack::with(&[("retry.schedule", r#"["50ms"]"#)]).await;
    let receiver = Receiver::start();
    receiver.at("/", |_| Reply::status(500));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let events = stack.emit_many("acme", "order.created", 20).await;
    for round in 1..=2 {
        stack.wait_statuses("dead", 20).await;
        stack.age_the_dead().await;
        let report = stack.cli(&ALL).await.json();
        assert_eq!(report["requeued"], json!(20), "each was taken once in round {round}");
    }
    let asked = receiver.wait_for(20 * 6).await;

    assert_eq!(stack.wait_settled().await, [("dead".to_owned(), 20)].into());

    let dead_letters = stack.dead_letters(20).await;
    assert_eq!(ids(&dead_letters), events.iter().map(Uuid::to_string).collect());
    for dead_letter in dead_letters {
        let of_it = ["attempts", "attempt", "base-attempts"].map(|name| dead_letter.header(name).to_owned());
        assert_eq!(of_it, ["6", "6", "4"]);
    }
    let mut numbers: Vec<&str> = asked.iter().map(|request| request.header("posthaste-attempt")).collect();
    numbers.sort();
    assert_eq!(numbers, ["1", "2", "3", "4", "5", "6"].map(|number| [number; 20]).concat(), "each number once");
}

#[tokio::test]
async fn filters_take_exactly_what_they_name_and_a_dry_run_changes_nothing() {
    let stack = Stack::new().await;
    stack.cli(&["topology", "declare"]).await.ok();
    let one = stack.endpoint("a", "https://1.1.1.1/", &[]).await.id;
    let two = stack.endpoint("b", "https://1.1.1.1/", &[]).await.id;
    let events = [
        stack.dead(one, ("a", "order.created"), "exhausted", 180).await,
        stack.dead(one, ("a", "order.paid"), "gone", 120).await,
        stack.dead(two, ("b", "order.created"), "exhausted", 60).await,
        stack.dead(two, ("b", "order.paid"), "permanent_status", 10).await,
    ];
    stack.dead(Uuid::now_v7(), ("a", "order.created"), "endpoint_removed", 30).await;
    let (first, fourth) = (events[0].to_string(), events[3].to_string());
    let (endpoint, dead_before) = (one.to_string(), stack.deliveries().await);
    let cases: [(&[&str], &[usize]); 13] = [
        (&["--event", &first], &[0]),
        (&["--event", &first, "--event", &fourth], &[0, 3]),
        (&["--endpoint", &endpoint], &[0, 1]),
        (&["--tenant", "b"], &[2, 3]),
        (&["--tenant", "nobody"], &[]),
        (&["--event-type", "order.created"], &[0, 2]),
        (&["--reason", "gone"], &[1]),
        (&["--since", "90m"], &[2, 3]),
        (&["--until", "90m"], &[0, 1]),
        (&["--since", "150m", "--until", "30m"], &[1, 2]),
        (&["--tenant", "a", "--event-type", "order.paid"], &[1]),
        (&["--tenant", "a", "--reason", "permanent_status"], &[]),
        (&["--all"], &[0, 1, 2, 3]),
    ];
    for (filter, meant) in cases {
        let planned = stack.cli(&[&["requeue", "--dry-run", "--json"], filter].concat()).await.json();
        assert_eq!((&planned["matched"], &planned["requeued"]), (&json!(meant.len()), &json!(0)), "{filter:?}");
        assert_eq!(stack.deliveries().await, dead_before, "a dry run of {filter:?} changes nothing");

        let report = stack.cli(&[&["requeue", "--yes", "--json"], filter].concat()).await.json();

        assert_eq!(report["requeued"], json!(meant.len()), "{filter:?}");
        let expected: BTreeSet<Uuid> = meant.iter().map(|n| events[*n]).collect();
        assert_eq!(with_status(&stack, "pending").await, expected, "{filter:?}");
        let still_dead = with_status(&stack, "dead").await.iter().map(Uuid::to_string).collect();
        assert_eq!(ids(&stack.dead_letters(5 - meant.len() as u32).await), still_dead, "{filter:?}");
        restore(&stack, &dead_before).await;
    }
    let all = stack.cli(&["requeue", "--all", "--dry-run", "--json"]).await.json();
    assert_eq!(all["skipped_endpoint_removed"], json!(1), "there is nowhere to send it");
}

/// As they were before a requeue.
async fn restore(stack: &Stack, rows: &[Delivery]) {
    for row in rows {
        let update = "update posthaste.deliveries set status = 'dead', base_attempts = 0, next_attempt_at = null,
            dead_reason = $2, updated_at = $3 where event_id = $1";
        let update = sqlx::query(update).bind(row.event_id).bind(&row.dead_reason).bind(row.updated_at);
        update.execute(&stack.db).await.unwrap();
    }
}

#[tokio::test]
async fn nothing_is_requeued_while_nobody_can_be_asked_or_nothing_is_named() {
    let stack = Stack::new().await;
    stack.cli(&["topology", "declare"]).await.ok();
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    stack.dead(endpoint, ("acme", "order.created"), "exhausted", 10).await;
    let before = stack.deliveries().await;
    for (arguments, said) in [
        (vec!["requeue", "--all"], "Requeue 1 deliveries? Nobody can be asked here: add --yes"),
        (vec!["requeue", "--yes"], "required arguments were not provided"),
        (vec!["requeue", "--all", "--yes", "--tenant", "acme"], "cannot be used with"),
        (vec!["requeue", "--reason", "bored", "--yes"], "'bored'"),
        (vec!["requeue", "--all", "--yes", "--rate", "0"], "invalid value '0'"),
    ] {
        let done = stack.cli(&arguments).await;
        assert_eq!(done.code, 64, "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(said) && done.stdout.is_empty(), "{arguments:?}: {}", done.stderr);
    }
    assert_eq!(stack.deliveries().await, before);
    assert_eq!((stack.depth("dead").await, stack.depth("retry").await), (0, 0));
}

#[tokio::test]
async fn a_rate_bounds_how_fast_deliveries_arrive() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    stack.run().await;
    for _ in 0..60 {
        stack.dead(endpoint, ("acme", "order.created"), "exhausted", 10).await;
    }

    stack.cli(&[&ALL[..], &["--rate", "10"]].concat()).await.ok();

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 60)].into());
    let times: Vec<_> = receiver.requests().iter().map(|request| request.at).collect();
    // The first ones may be late on a busy machine, and none is early.
    let span = times[59] - times[0];
    assert!(span >= Duration::from_millis(2_500), "10 a second, the last ones after five: {span:?}");
    assert!(times[45] - times[0] >= Duration::from_millis(1_000), "the first second takes ten");
}

#[tokio::test]
async fn the_sweep_sets_the_letters_right() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.cli(&["topology", "declare"]).await.ok();
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    let mut dead = BTreeSet::new();
    for _ in 0..5 {
        dead.insert(stack.dead(endpoint, ("acme", "order.created"), "exhausted", 10).await.to_string());
    }
    let sweep = async || stack.cli(&["reconcile", "--json"]).await.json()["letters"].clone();
    assert_eq!(sweep().await, json!({"kept": 0, "dropped": 0, "written": 5, "refused": 0, "erased": 0}));
    let dead_letters = stack.dead_letters(5).await;
    assert_eq!(ids(&dead_letters), dead);
    assert_eq!(sweep().await, json!({"kept": 5, "dropped": 0, "written": 0, "refused": 0, "erased": 0}));

    let exchange = stack.queue("dead");
    let post = async |properties: BasicProperties, body: &[u8]| {
        stack.publish_to(&exchange, "dead", properties, body).await;
    };
    // A doubled dead letter, one of an earlier death, one whose delivery is unknown, and two that are not ours.
    let lost = stack.take("dead").await;
    post(dead_letters[1].properties.clone(), &dead_letters[1].body).await;
    let mut headers = dead_letters[2].properties.headers().clone().unwrap();
    headers.insert("attempts".into(), lapin::types::AMQPValue::LongInt(0));
    post(dead_letters[2].properties.clone().with_headers(headers), &dead_letters[2].body).await;
    post(dead_letters[3].properties.clone().with_message_id(Uuid::now_v7().to_string().into()), b"{}").await;
    post(BasicProperties::default(), b"\x00not ours").await;
    post(BasicProperties::default().with_message_id("17".into()), b"nor this").await;
    let swept = sweep().await;

    assert_eq!(swept, json!({"kept": 6, "dropped": 3, "written": 1, "refused": 0, "erased": 0}));
    let (foreign, own): (Vec<_>, Vec<_>) =
        stack.dead_letters(7).await.into_iter().partition(|l| l.header("tenant").is_empty());
    assert_eq!(ids(&own), dead, "the one that was lost is back: {lost:?}");
    let mut bodies: Vec<&[u8]> = foreign.iter().map(|dead_letter| dead_letter.body.as_slice()).collect();
    bodies.sort();
    assert_eq!(bodies, [&b"\x00not ours"[..], b"nor this"]);
}

#[tokio::test]
async fn a_dead_letter_that_was_looked_at_many_times_is_still_there() {
    let stack = Stack::new().await;
    stack.cli(&["topology", "declare"]).await.ok();
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let event = stack.dead(endpoint, ("acme", "order.created"), "exhausted", 10).await;
    stack.cli(&["reconcile"]).await.ok();
    for _ in 0..30 {
        stack.look_at("dead").await;
    }

    let swept = stack.cli(&["reconcile", "--json"]).await.json()["letters"].clone();

    assert_eq!(swept, json!({"kept": 1, "dropped": 0, "written": 0, "refused": 0, "erased": 0}));
    assert_eq!(ids(&stack.dead_letters(1).await), [event.to_string()].into());
}

#[tokio::test]
async fn a_dead_letter_queue_longer_than_one_pass_is_swept_completely() {
    let settings = [("retry.schedule", r#"["50ms"]"#), ("circuit.enabled", "false")];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/", |_| Reply::status(500));
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    stack.run().await;
    stack.emit_many("acme", "order.created", 530).await;
    stack.emit_many("acme", "order.paid", 90).await;
    assert_eq!(stack.wait_settled().await, [("dead".to_owned(), 620)].into());
    stack.wait_depth("dead", 620).await;
    stack.age_the_dead().await;
    let doubled = stack.take("dead").await;
    for _ in 0..3 {
        stack.publish_to(&stack.queue("dead"), "dead", doubled.clone(), b"{}").await;
    }
    receiver.at("/", |_| Reply::ok());

    let report = stack.cli(&["requeue", "--event-type", "order.paid", "--yes", "--json"]).await.json();

    assert_eq!(report["requeued"], json!(90));
    let swept = &report["letters"];
    assert_eq!((&swept["kept"], &swept["dropped"], &swept["written"]), (&json!(530), &json!(92), &json!(0)));
    let statuses = stack.wait_settled().await;
    assert_eq!(statuses, [("dead".to_owned(), 530), ("delivered".to_owned(), 90)].into());
    let dead_letters = stack.dead_letters(530).await;
    let still_dead = with_status(&stack, "dead").await.iter().map(Uuid::to_string).collect();
    assert_eq!(ids(&dead_letters), still_dead, "one dead letter for each");
}
