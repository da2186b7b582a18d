//! The broker has an alarm: what can be finished without it is finished, because draining its queues is what ends an alarm.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use uuid::Uuid;

use crate::harness::{OwnServers, Receiver, Reply, Stack, eventually};

/// Many more than a worker has in hand.
const DELIVERIES: i64 = 400;

/// Deliveries that wait in the queue of retries for their second attempt.
async fn waiting(stack: &Stack, endpoint: Uuid) {
    for _ in 0..DELIVERIES {
        stack.dead(endpoint, ("acme", "order.created"), "exhausted", 5).await;
    }
    stack.execute("update posthaste.deliveries set max_attempts = 4").await;
    stack.cli(&["requeue", "--all", "--yes"]).await.ok();
    assert_eq!(i64::from(stack.depth("retry").await), DELIVERIES);
}

#[tokio::test]
async fn a_queue_of_deliveries_that_fail_is_drained_while_the_broker_takes_nothing() {
    let test = "a_queue_of_deliveries_that_fail_is_drained_while_the_broker_takes_nothing";
    let Some(own) = OwnServers::lock(test).await else { return };
    let own = own.as_ref().unwrap();
    let settings = [("circuit.enabled", "false"), ("reconcile.interval", "1h")];
    let (stack, receiver) = (Stack::on(&own.servers, &settings).await, Receiver::start());
    let failing = Arc::new(AtomicBool::new(true));
    let fails = failing.clone();
    receiver.at("/", move |_| if fails.load(Ordering::Relaxed) { Reply::status(500) } else { Reply::ok() });
    stack.cli(&["topology", "declare"]).await.ok();
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    waiting(&stack, endpoint.id).await;
    own.memory_alarm(true).await;

    let worker = stack.worker().await;

    let untried = "select count(*) from posthaste.deliveries where status = 'pending'";
    eventually("all are tried", async || (stack.number(untried).await == 0).then_some(())).await;
    stack.wait_statuses("held", DELIVERIES).await;
    stack.wait_depth("retry", 0).await;
    println!("{} requests for {DELIVERIES} deliveries", receiver.count());
    assert!(receiver.count() as i64 > DELIVERIES / 2, "they were tried");
    let said = async || {
        let (status, text) = worker.get("/readyz").await;
        (status == 503 && text.contains("the broker has a memory or disk alarm")).then_some(())
    };
    eventually("the worker says what it waits for", said).await;
    failing.store(false, Ordering::Relaxed);
    own.memory_alarm(false).await;
    worker.ready().await;
    stack.relay().await;
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), DELIVERIES)].into());
    assert!(stack.deliveries().await.iter().all(|delivery| delivery.attempts <= 3), "each attempt counts once");
    assert!(worker.is_running());
}
