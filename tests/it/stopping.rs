//! Processes end: asked to, or killed. Nothing is lost, and what they were busy with is somebody else's work then.

use std::collections::HashMap;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::harness::{Door, Proxy, Receiver, Reply, Stack, eventually};
use crate::kit::signal;

const STOPPING: &str = "stopping; a second signal ends the process at once";

fn doubled(counts: &HashMap<String, usize>) -> usize {
    counts.values().map(|count| count - 1).sum()
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_finishes_its_requests_and_leaves_the_rest_to_others() {
    // Half of its slow room has place for all that one endpoint may get.
    let (stack, receiver) = (Stack::with(&[("worker.concurrency", "192")]).await, Receiver::start());
    let door = Door::closed();
    let behind = door.clone();
    receiver.at("/", move |_| Reply::ok().behind(&behind));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    let worker = stack.worker().await;
    stack.emit_many("acme", "order.created", 60).await;
    let in_flight = receiver.wait_for(32).await.len() as i64;

    worker.terminate();

    worker.logged_message(STOPPING).await;
    assert!(worker.is_running(), "requests are in flight");
    assert_eq!(worker.get("/readyz").await.0, 200, "it can still do its work until it has stopped");
    door.open();
    assert_eq!(worker.exit_code().await, Some(0));
    assert_eq!(stack.statuses().await["delivered"], in_flight);
    assert_eq!(receiver.count() as i64, in_flight, "nothing new was begun");
    stack.worker().await;
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 60)].into());
    assert_eq!((receiver.counts().len(), doubled(&receiver.counts())), (60, 0));
    assert_eq!(stack.number("select count(*) from posthaste.attempts where attempt = 1").await, 60);
}

#[tokio::test]
async fn a_request_that_outlasts_the_grace_period_is_abandoned_and_its_attempt_is_not_spent() {
    let (stack, receiver) = (Stack::with(&[("shutdown.grace", "500ms")]).await, Receiver::start());
    receiver.at("/", |n| if n == 1 { Reply::hang() } else { Reply::ok() });
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    let worker = stack.worker().await;
    let id = stack.emit("acme", "order.created", "{}").await;
    receiver.wait_for(1).await;

    worker.terminate();

    let began = Instant::now();
    assert_eq!(worker.exit_code().await, Some(0));
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    let abandoned = "abandoned at the end of the grace period; another worker takes them, and no attempt is spent";
    let named = |line: &Value| (line["message"] == abandoned).then(|| line["deliveries"].clone());
    assert_eq!(worker.logged("what was abandoned", named).await, json!(1));
    let row = stack.delivery(id).await;
    assert_eq!((row.status.as_str(), row.attempts), ("pending", 0));
    stack.worker().await;
    assert_eq!(stack.wait_status(id, "delivered").await.attempts, 1);
    assert_eq!(stack.attempts(id).await.len(), 1);
    let asked: Vec<String> = receiver.requests().iter().map(|r| r.header("posthaste-attempt").to_owned()).collect();
    assert_eq!(asked, ["1", "1"]);
}

#[tokio::test]
async fn a_worker_that_is_asked_to_stop_while_it_reconnects_finishes_what_it_has_in_hand() {
    let (stack, receiver) = (Stack::with(&[("reconcile.interval", "1h")]).await, Receiver::start());
    let (door, broker) = (Door::closed(), Proxy::to(&stack.binary.amqp_url));
    let behind = door.clone();
    receiver.at("/", move |_| Reply::ok().behind(&behind));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    let worker = stack.start("worker", &[("broker.url", &broker.url(&stack.binary.amqp_url))]).await;
    let events = stack.emit_many("acme", "order.created", 5).await;
    receiver.wait_for(5).await;
    broker.cut();
    worker.logged_message("lost the broker; reconnecting").await;

    worker.terminate();

    worker.logged_message(STOPPING).await;
    door.open();
    assert_eq!(worker.exit_code().await, Some(0));
    for event in events {
        let row = stack.delivery(event).await;
        assert_eq!((row.status.as_str(), row.attempts), ("delivered", 1));
    }
    assert_eq!(receiver.count(), 5);
}

#[tokio::test]
async fn a_process_that_still_waits_for_its_servers_stops_at_once() {
    let stack = Stack::new().await;
    let database = Proxy::to(&stack.binary.database_url);
    database.cut();
    let process = stack.spawn("run", &[("database.url", &database.url(&stack.binary.database_url))]);
    process.logged_message("not ready to start; trying again").await;

    process.terminate();

    assert_eq!(process.exit_code().await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_a_process_at_once() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/", |_| Reply::hang());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let process = stack.run().await;
    stack.emit("acme", "order.created", "{}").await;
    receiver.wait_for(1).await;
    process.terminate();
    process.logged_message(STOPPING).await;

    process.terminate();

    assert_eq!(process.exit_code().await, Some(130));
}

#[tokio::test]
async fn a_relay_that_is_asked_to_stop_under_load_loses_and_doubles_nothing() {
    const EVENTS: i32 = 1_500;
    let (stack, receiver) = (Stack::with(&[("relay.batch_size", "20")]).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    stack.worker().await;
    stack.emit_many("acme", "order.created", EVENTS).await;
    let mut stopped_midway = 0;
    for _ in 0..3 {
        let relay = stack.relay().await;
        let before = receiver.count();
        receiver.wait_for((before + 50).min(EVENTS as usize)).await;
        relay.terminate();
        assert_eq!(relay.exit_code().await, Some(0));
        assert_eq!(stack.number("select count(*) from posthaste.relay_batches").await, 0, "every batch was confirmed");
        stopped_midway += i32::from(stack.number("select count(*) from posthaste.outbox").await > 0);
    }
    stack.relay().await;

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), i64::from(EVENTS))].into());

    assert!(stopped_midway > 0, "no relay was stopped under load");
    let counts = receiver.counts();
    assert_eq!((counts.len(), doubled(&counts)), (EVENTS as usize, 0));
}

#[tokio::test]
async fn batches_of_a_relay_that_died_between_commit_and_confirm_are_adopted_within_seconds() {
    const EVENTS: i32 = 1_000;
    let (stack, receiver) = (Stack::with(&[("relay.batch_size", "50")]).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    stack.worker().await;
    let listed = "select count(*) from posthaste.relay_batches";
    let mut died_with = Vec::new();
    for round in 1..=3 {
        let proxy = Proxy::to(&stack.binary.amqp_url);
        let relay = stack.start("relay", &[("broker.url", &proxy.url(&stack.binary.amqp_url))]).await;
        stack.emit_many("acme", "order.created", EVENTS / 10).await;
        receiver.wait_until("some events arrive", |all| all.len() >= round * 50).await;
        proxy.stall();
        stack.emit_many("acme", "order.created", EVENTS / 5).await;
        // Claimed and committed; no confirm can come any more. A second batch waits for the queue to be nearly empty.
        eventually("batches wait for their confirms", async || (stack.number(listed).await >= 1).then_some(())).await;
        relay.kill();
        died_with.push(stack.number(listed).await);
        drop(proxy);
    }
    stack.emit_many("acme", "order.created", EVENTS / 10).await;
    let began = Instant::now();
    stack.relay().await;

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), i64::from(EVENTS))].into());

    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    let counts = receiver.counts();
    assert_eq!(counts.len(), EVENTS as usize);
    println!("{EVENTS} events, relays died with {died_with:?} batches, {} posted twice", doubled(&counts));
    assert!(stack.deliveries().await.iter().all(|delivery| delivery.attempts == 1));
}

#[tokio::test]
async fn workers_killed_in_the_middle_lose_nothing_and_spend_no_attempt() {
    const EVENTS: i32 = 600;
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/", |_| Reply::ok().after(Duration::from_millis(10)));
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    stack.relay().await;
    stack.emit_many("acme", "order.created", EVENTS).await;
    for round in 1..=3 {
        let worker = stack.worker().await;
        receiver.wait_until("some requests", |all| all.len() >= round * 100).await;
        worker.kill();
    }
    stack.worker().await;

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), i64::from(EVENTS))].into());

    let counts = receiver.counts();
    assert_eq!(counts.len(), EVENTS as usize);
    println!("{EVENTS} events, 3 workers killed, {} posted twice", doubled(&counts));
    assert!(doubled(&counts) <= 3 * 100, "at most what was in hand at each kill");
    assert!(stack.deliveries().await.iter().all(|delivery| delivery.attempts == 1));
}

#[tokio::test]
async fn a_rolling_restart_of_all_relays_and_workers_under_load_loses_and_doubles_nothing() {
    let (stack, receiver) = (Stack::with(&[("relay.batch_size", "50")]).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "500"]).await;
    let mut processes = Vec::new();
    for role in ["relay", "relay", "worker", "worker", "worker"] {
        processes.push((role, stack.start(role, &[]).await));
    }
    let (db, stop) = (stack.db.clone(), Arc::new(AtomicBool::new(false)));
    let told = stop.clone();
    let producer = tokio::spawn(async move {
        let mut committed = Vec::new();
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while !told.load(Ordering::Relaxed) {
            tick.tick().await;
            let emit = "select posthaste.emit('acme', 'order.created', '{}') from generate_series(1, 10)";
            committed.extend(sqlx::query_scalar::<_, Uuid>(emit).fetch_all(&db).await.unwrap());
        }
        committed
    });
    for (role, process) in processes {
        let before = receiver.count();
        receiver.wait_for(before + 50).await;
        process.terminate();
        assert_eq!(process.exit_code().await, Some(0));
        stack.start(role, &[]).await;
    }
    stop.store(true, Ordering::Relaxed);
    let committed = producer.await.unwrap();

    let statuses = stack.wait_settled().await;

    assert_eq!(statuses, [("delivered".to_owned(), committed.len() as i64)].into());
    let counts = receiver.counts();
    assert_eq!(committed.iter().filter(|id| !counts.contains_key(&id.to_string())).count(), 0, "lost");
    assert_eq!(doubled(&counts), 0, "posted twice, of {}", committed.len());
    assert!(stack.deliveries().await.iter().all(|delivery| delivery.attempts == 1));
}

#[tokio::test]
async fn a_requeue_that_is_interrupted_ends_in_order_and_says_how_far_it_came() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    for _ in 0..30 {
        stack.dead(endpoint, ("acme", "order.created"), "exhausted", 10).await;
    }
    stack.run().await;
    let mut command = stack.command(&["requeue", "--all", "--yes", "--json", "--rate", "1"], &[]);
    let requeue = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    receiver.wait_for(1).await;

    signal(requeue.id(), libc::SIGTERM);

    let output = tokio::task::spawn_blocking(|| requeue.wait_with_output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(1) && said.contains("run the same again"), "{said}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let requeued = summary["requeued"].as_i64().unwrap();
    assert!((1..30).contains(&requeued), "{summary}");
    let account =
        "select requeued from posthaste.requeues where finished_at is not null and error = 'stopped by a signal'";
    assert_eq!(stack.number(account).await, requeued);
    stack.wait_statuses("delivered", requeued).await;
    stack.wait_statuses("dead", 30 - requeued).await;
}
