//! Deliveries that wait in PostgreSQL: for an endpoint that is disabled, busy or gone.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::harness::{Door, Receiver, Reply, Stack, eventually};

#[tokio::test]
async fn a_disabled_endpoint_holds_its_deliveries_and_enabling_it_releases_all() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let process = stack.run().await;
    let id = endpoint.id.to_string();
    let disabled = stack.cli(&["endpoint", "disable", &id, "--reason", "maintenance", "--json"]).await.json();
    assert_eq!((&disabled["status"], &disabled["disabled_reason"]), (&json!("disabled"), &json!("maintenance")));

    let ids = stack.emit_many("acme", "order.created", 300).await;

    stack.wait_statuses("held", 300).await;
    stack.wait_relayed().await;
    for queue in ["deliver", "retry", "delay.300", "delay.600", "dead"] {
        assert_eq!(stack.depth(queue).await, 0, "{queue}");
    }
    assert_eq!((receiver.count(), stack.number("select count(*) from posthaste.attempts").await), (0, 0));
    eventually("the gauge shows them", async || {
        (process.metric("posthaste_held_deliveries").await == 300.0).then_some(())
    })
    .await;

    stack.cli(&["endpoint", "enable", &id]).await.ok();

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 300)].into());
    let counts = receiver.counts();
    assert!(counts.len() == 300 && ids.iter().all(|id| counts[&id.to_string()] == 1), "each exactly once");
    assert!(stack.deliveries().await.iter().all(|delivery| delivery.attempts == 1));
}

#[tokio::test]
async fn a_retry_that_comes_due_at_a_disabled_endpoint_is_held_with_its_attempts() {
    // Long enough to disable the endpoint meanwhile, on a slow machine too.
    let (stack, receiver) = (Stack::with(&[("retry.schedule", r#"["4s"]"#)]).await, Receiver::start());
    receiver.at("/", |n| if n == 1 { Reply::status(500) } else { Reply::ok() });
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let id = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(id, "retrying").await;

    stack.cli(&["endpoint", "disable", &endpoint.id.to_string()]).await.ok();

    let held = stack.wait_status(id, "held").await;
    assert_eq!((held.attempts, receiver.count()), (1, 1));
    stack.cli(&["endpoint", "enable", &endpoint.id.to_string()]).await.ok();
    assert_eq!(stack.wait_status(id, "delivered").await.attempts, 2);
}

#[tokio::test]
async fn changes_of_an_endpoint_by_plain_sql_apply_within_a_second() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/old"), &[]).await;
    stack.start("relay", &[]).await;
    // One worker hears of changes, the other one asks for them.
    stack.start("worker", &[]).await;
    stack.start("worker", &[("relay.wake", "poll")]).await;
    stack.emit_many("acme", "order.created", 20).await;
    receiver.wait_for(20).await;

    let update = "update posthaste.endpoints set url = $2 where id = $1";
    sqlx::query(update).bind(endpoint.id).bind(receiver.url("/new")).execute(&stack.db).await.unwrap();
    let changed = Instant::now();

    // Both workers take from one stream of events, so once enough of it arrives at the new place, both have changed.
    let late = Duration::from_millis(1_500);
    while changed.elapsed() < late {
        stack.emit_many("acme", "order.created", 10).await;
        // When a worker applies a change, it tells nobody: requests are sent all the time until it must have.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stack.emit_many("acme", "order.created", 50).await;
    stack.wait_settled().await;
    let old = receiver.requests_to("/old");
    let last = old.iter().map(|request| request.at.saturating_duration_since(changed)).max().unwrap();
    assert!(last < late, "the old URL was used {last:?} after the change");

    stack.change(endpoint.id, "update posthaste.endpoints set status = 'disabled' where id = $1").await;
    let id = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(id, "held").await;
    stack.change(endpoint.id, "update posthaste.endpoints set status = 'enabled' where id = $1").await;
    stack.wait_status(id, "delivered").await;
}

#[tokio::test]
async fn removing_an_endpoint_ends_what_is_unfinished() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/", |_| Reply::status(500));
    let settings = [("retry.schedule", r#"["2s"]"#)];
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.start("relay", &settings).await;
    stack.start("worker", &settings).await;
    let retrying = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(retrying, "retrying").await;
    stack.change(endpoint.id, "update posthaste.endpoints set status = 'disabled' where id = $1").await;
    let held = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(held, "held").await;
    let refused = stack.cli(&["endpoint", "remove", &endpoint.id.to_string()]).await;
    assert_eq!(refused.code, 64, "nobody can be asked: {}", refused.stderr);

    let removed = stack.cli(&["endpoint", "remove", &endpoint.id.to_string(), "--yes", "--json"]).await.json();

    assert_eq!((&removed["removed"], &removed["deliveries_ended"]), (&json!(true), &json!(2)));
    for (id, attempts) in [(retrying, 1), (held, 0)] {
        let dead = stack.wait_status(id, "dead").await;
        assert_eq!((dead.dead_reason.as_deref(), dead.attempts), (Some("endpoint_removed"), attempts));
    }
    let dead_letters = stack.dead_letters(2).await;
    assert!(
        dead_letters.iter().all(|dead_letter| dead_letter.header("dead-reason") == "endpoint_removed"),
        "{dead_letters:?}"
    );
    // The dead letter of a delivery that died before its first attempt is a dead letter like any other: kept, and never doubled.
    stack.age_the_dead().await;
    for _ in 0..2 {
        let swept = stack.cli(&["reconcile", "--json"]).await.json()["letters"].clone();
        assert_eq!(swept, json!({"kept": 2, "dropped": 0, "written": 0, "refused": 0, "erased": 0}));
    }
    stack.wait_depth("dead", 2).await;
}

#[tokio::test]
async fn an_endpoint_removed_by_plain_sql_leaves_dead_deliveries() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.change(endpoint.id, "update posthaste.endpoints set status = 'disabled' where id = $1").await;
    stack.run().await;
    let id = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(id, "held").await;

    stack.change(endpoint.id, "delete from posthaste.endpoints where id = $1").await;

    assert_eq!(stack.wait_status(id, "dead").await.dead_reason.as_deref(), Some("endpoint_removed"));
    assert_eq!(stack.dead_letters(1).await[0].header("dead-reason"), "endpoint_removed");
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn an_endpoint_that_hangs_gets_its_excess_held_while_another_is_served() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let door = Door::closed();
    let behind = door.clone();
    receiver.at("/slow", move |_| Reply::ok().behind(&behind));
    stack.endpoint("slow", &receiver.url("/slow"), &["--max-in-flight", "4"]).await;
    stack.endpoint("prompt", &receiver.url("/prompt"), &[]).await;
    stack.run().await;
    stack.emit_many("slow", "order.created", 200).await;
    eventually("the excess is held", async || (stack.statuses().await.get("held") >= Some(&150)).then_some(())).await;

    let began = Instant::now();
    stack.emit_many("prompt", "order.created", 100).await;
    receiver
        .wait_until("the prompt endpoint's share", |all| {
            all.iter().filter(|request| request.path == "/prompt").count() == 100
        })
        .await;

    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(receiver.requests_to("/slow").len() <= 8, "at most its share of both lanes");
    door.open();
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 300)].into());
    assert!(stack.deliveries().await.iter().all(|delivery| delivery.attempts == 1), "a hold spends no attempt");
    assert!(receiver.counts().values().all(|count| *count == 1));
}
