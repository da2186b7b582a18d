//! Rates, requests to slow down, and the share of one endpoint over several workers.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Door, Receiver, Reply, Request, Stack, eventually};

/// The most requests that arrived within any second.
fn busiest_second(requests: &[Request]) -> usize {
    let times: Vec<Instant> = requests.iter().map(|request| request.at).collect();
    let within =
        |from: &Instant| times.iter().filter(|at| *at >= from && **at - *from < Duration::from_secs(1)).count();
    times.iter().map(within).max().unwrap_or(0)
}

#[tokio::test]
async fn an_endpoint_with_a_rate_limit_is_never_sent_to_faster_and_gets_everything_once() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &["--rate-limit", "40"]).await;
    let process = stack.run().await;

    stack.emit_many("acme", "order.created", 250).await;

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 250)].into());
    let requests = receiver.requests();
    // Requests leave evenly; on a busy machine they may arrive bunched up.
    assert!(busiest_second(&requests) <= 60, "{} requests in one second", busiest_second(&requests));
    let ids: HashSet<&str> = requests.iter().map(Request::id).collect();
    assert_eq!((requests.len(), ids.len()), (250, 250));
    assert!(stack.deliveries().await.iter().all(|delivery| delivery.attempts == 1), "waiting spends no attempt");
    let held = process.metric("posthaste_held_total").await;
    assert!((1.0..=250.0).contains(&held), "each is held once at most: {held}");
    assert!(process.metrics().await.contains_key(r#"posthaste_held_total{reason="rate_limit"}"#));
}

#[tokio::test]
async fn a_rate_limit_holds_for_all_workers_together() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &["--rate-limit", "40"]).await;
    stack.relay().await;
    let workers = [stack.worker().await, stack.worker().await];
    for worker in &workers {
        worker.logged("both workers are known", |line| (line["workers"] == 2).then_some(())).await;
    }

    stack.emit_many("acme", "order.created", 200).await;

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 200)].into());
    let busiest = busiest_second(&receiver.requests());
    assert!(busiest <= 60, "{busiest} requests in one second");
}

#[tokio::test]
async fn the_bound_in_flight_holds_for_all_workers_together() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let door = Door::closed();
    let behind = door.clone();
    receiver.at("/", move |_| Reply::ok().behind(&behind));
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "6"]).await;
    stack.relay().await;
    let workers = [stack.worker().await, stack.worker().await];
    for worker in &workers {
        worker.logged("both workers are known", |line| (line["workers"] == 2).then_some(())).await;
    }

    stack.emit_many("acme", "order.created", 100).await;

    eventually("the excess is held", async || (stack.statuses().await.get("held") >= Some(&80)).then_some(())).await;
    let shown = eventually("the workers have reported", async || {
        let id = "select id::text from posthaste.endpoints";
        let id: String = sqlx::query_scalar(id).fetch_one(&stack.db).await.ok()?;
        let shown = stack.cli(&["endpoint", "show", &id, "--json"]).await.json();
        (shown["in_flight"] == 6).then_some(shown)
    })
    .await;
    assert_eq!(receiver.count(), 6, "{shown}");
    door.open();
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 100)].into());
}

#[tokio::test]
async fn an_answer_of_429_stops_everything_to_that_endpoint_for_the_time_asked() {
    let (stack, receiver) = (Stack::with(&[("retry.schedule", r#"["300ms", "300ms"]"#)]).await, Receiver::start());
    let asked = Arc::new(AtomicBool::new(false));
    let first = asked.clone();
    receiver.at("/", move |_| {
        if first.swap(true, Ordering::Relaxed) { Reply::ok() } else { Reply::status(429).header("retry-after", 3) }
    });
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let refused = stack.emit("acme", "order.created", "{}").await;
    receiver.wait_for(1).await;
    eventually("the answer is recorded", async || (stack.delivery(refused).await.attempts == 1).then_some(())).await;

    stack.emit_many("acme", "order.created", 20).await;

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 21)].into());
    let requests = receiver.requests();
    let waited = requests[1].at - requests[0].at;
    assert!(waited >= Duration::from_millis(2_900), "the next request came after {waited:?}");
    let attempts: Vec<i32> = stack.deliveries().await.iter().map(|delivery| delivery.attempts).collect();
    assert_eq!((attempts.iter().filter(|made| **made == 2).count(), attempts.iter().sum::<i32>()), (1, 22));
}

#[tokio::test]
async fn a_great_replay_to_a_slow_endpoint_does_not_keep_first_attempts_waiting() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let door = Door::closed();
    let behind = door.clone();
    receiver.at("/slow", move |_| Reply::ok().behind(&behind));
    let slow = stack.endpoint("slow", &receiver.url("/slow"), &["--max-in-flight", "1000"]).await;
    stack.endpoint("live", &receiver.url("/live"), &[]).await;
    for _ in 0..100 {
        stack.dead(slow.id, ("slow", "order.created"), "exhausted", 10).await;
    }
    stack.run().await;
    let requeue = stack.cli(&["requeue", "--tenant", "slow", "--yes", "--json"]).await.json();
    assert_eq!(requeue["requeued"], 100, "{requeue}");
    // Half of the slow room for retries and replays, which has 12 slots here, is the most that one endpoint gets.
    receiver.wait_for(6).await;

    stack.emit_many("live", "order.created", 200).await;

    receiver
        .wait_until("the live events", |all| all.iter().filter(|request| request.path == "/live").count() == 200)
        .await;
    assert_eq!(receiver.requests_to("/slow").len(), 6);
    door.open();
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 300)].into());
}

#[tokio::test]
async fn an_endpoint_that_refuses_events_for_good_gets_its_backlog_as_fast_as_one_that_accepts_them() {
    let settings = [("retry.permanent_status_codes", "[400]"), ("relay.release_rate", "50")];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/", |_| Reply::status(400));
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.change(endpoint.id, "update posthaste.endpoints set status = 'disabled' where id = $1").await;
    stack.run().await;
    stack.emit_many("acme", "order.created", 300).await;
    stack.wait_statuses("held", 300).await;

    stack.change(endpoint.id, "update posthaste.endpoints set status = 'enabled' where id = $1").await;

    // 6 s at 50 a second; slowed down to one a second it would be minutes.
    assert_eq!(stack.wait_settled().await, [("dead".to_owned(), 300)].into());
}
