//! Clocks that jump. The database's is the only one that counts; that it was set is shown by moving every time that it has
//! written, which comes to the same.

use crate::harness::{Receiver, Reply, Stack, eventually, within};
use crate::rebuilding::{REBUILD, SOON, asked};

/// As if the clock had been set forward.
const AN_HOUR_LATER: [&str; 2] = [
    "update posthaste.deliveries set next_attempt_at = next_attempt_at - interval '1 hour'",
    "update posthaste.markers set published_at = published_at - interval '1 hour', recorded_at = recorded_at - interval '1 hour'",
];
/// As if it had been set back.
const AN_HOUR_EARLIER: [&str; 2] = [
    "update posthaste.deliveries set next_attempt_at = next_attempt_at + interval '1 hour'",
    "update posthaste.markers set published_at = published_at + interval '1 hour', recorded_at = recorded_at + interval '1 hour'",
];

async fn jump(stack: &Stack, statements: [&'static str; 2]) {
    for statement in statements {
        stack.execute(statement).await;
    }
}

#[tokio::test]
async fn a_clock_set_forward_makes_retries_early_and_neither_loses_nor_doubles_one() {
    let stack = Stack::with(&[&SOON[..], &[("retry.schedule", r#"["20s"]"#)]].concat()).await;
    let receiver = Receiver::start();
    receiver.at("/", |n| if n == 1 { Reply::status(500) } else { Reply::ok() });
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let process = stack.run().await;
    stack.emit_many("acme", "order.created", 20).await;
    stack.wait_statuses("retrying", 20).await;

    jump(&stack, AN_HOUR_LATER).await;

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 20)].into());
    assert!(stack.deliveries().await.iter().all(|delivery| delivery.attempts == 2));
    // What is due is looked for, and published again, unless the machine is so slow that the delay queues are first.
    let again = process.metric("posthaste_lost_and_republished_total").await;
    let stale = "the copies from the delay queues are recognised";
    eventually(stale, async || (process.metric("posthaste_duplicates_discarded_total").await >= again).then_some(()))
        .await;
    let asked = asked(&receiver);
    assert!(asked.len() == 40 && asked.values().all(|count| *count == 1), "{asked:?}");
}

#[tokio::test]
async fn a_clock_set_back_stops_neither_deliveries_nor_the_search_for_losses() {
    let (stack, receiver) = (Stack::with(&SOON).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let relay = stack.relay().await;
    let worker = stack.worker().await;
    let recorded = "select count(distinct queue) from posthaste.markers where recorded_at < now()";
    eventually("markers are recorded", async || (stack.number(recorded).await == 2).then_some(())).await;
    worker.terminate();
    assert_eq!(worker.exit_code().await, Some(0));
    let waiting = stack.emit_many("acme", "order.created", 10).await;
    stack.wait_relayed().await;

    jump(&stack, AN_HOUR_EARLIER).await;

    let worker = stack.worker().await;
    for event in waiting {
        assert_eq!(stack.wait_status(event, "delivered").await.attempts, 1);
    }
    assert_eq!(relay.metric("posthaste_lost_and_republished_total").await, 0.0);
    worker.terminate();
    assert_eq!(worker.exit_code().await, Some(0));
    let lost = stack.emit("acme", "order.created", "{}").await;
    stack.wait_relayed().await;
    stack.delete_queues(&["deliver"]).await;
    stack.worker().await;
    let found = async || (stack.delivery(lost).await.status == "delivered").then_some(());
    within(REBUILD, "markers of the new time find it", found).await;
    assert_eq!(relay.metric("posthaste_lost_and_republished_total").await, 1.0);
}
