//! Code of ours that panics: at one message, or in a task that others rely on. Numbers that no message and no row of ours has
//! overflow in it.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
use serde_json::Value;
use uuid::Uuid;

use crate::harness::{Receiver, Reply, Stack, eventually};

const UNREACHED: i32 = i32::MAX;

/// Nothing but the worker moves anything.
async fn without_relay(receiver: &Receiver) -> (Stack, Uuid, BasicProperties) {
    let stack = Stack::with(&[("reconcile.interval", "1h"), ("circuit.enabled", "false")]).await;
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let relay = stack.relay().await;
    let event = stack.emit("acme", "order.created", "{}").await;
    stack.wait_relayed().await;
    relay.terminate();
    assert_eq!(relay.exit_code().await, Some(0));
    let message = loop {
        let message = stack.take("deliver").await;
        if message.message_id().is_some() {
            break message;
        }
    };
    (stack, event, message)
}

fn with_number(message: &BasicProperties, name: &str, value: AMQPValue) -> BasicProperties {
    let mut headers: FieldTable = message.headers().clone().unwrap_or_default();
    headers.insert(name.into(), value);
    message.clone().with_headers(headers)
}

#[tokio::test]
async fn a_message_that_the_worker_panics_at_is_held_and_at_last_poison() {
    let receiver = Receiver::start();
    let (stack, event, message) = without_relay(&receiver).await;
    let message = with_number(&message, "claimed-at", AMQPValue::LongLongInt(i64::MIN));
    let worker = stack.worker().await;

    for _ in 0..4 {
        stack.publish("deliver", message.clone(), b"{}").await;
        assert_eq!(stack.wait_status(event, "held").await.attempts, 0);
        stack.execute("update posthaste.deliveries set status = 'pending'").await;
    }
    stack.publish("deliver", message, b"{}").await;

    let dead = stack.wait_status(event, "dead").await;
    assert_eq!((dead.dead_reason.as_deref(), dead.attempts), (Some("poison"), 0));
    assert_eq!(stack.dead_letters(1).await[0].header("dead-reason"), "poison");
    assert_eq!(stack.depth("deliver").await, 0);
    assert!(worker.is_running() && receiver.count() == 0);
    let suspects = "select count(*) from posthaste.suspects";
    let cleared = async || (stack.number(suspects).await == 0).then_some(());
    eventually("a requeue starts without suspicion", cleared).await;
}

#[tokio::test]
async fn a_worker_whose_settling_panics_ends_and_the_next_one_gets_over_the_message() {
    let receiver = Receiver::start();
    receiver.at("/", |n| if n == 1 { Reply::status(500) } else { Reply::ok() });
    let (stack, event, message) = without_relay(&receiver).await;
    stack.execute("update posthaste.deliveries set attempts = 2147483646, base_attempts = 2147483646").await;
    let message = with_number(&message, "attempt", AMQPValue::LongInt(UNREACHED));
    let message = with_number(&message, "base-attempts", AMQPValue::LongInt(UNREACHED - 1));
    let worker = stack.worker().await;

    stack.publish("retry", message, b"{}").await;

    assert_eq!(worker.exit_code().await, Some(1));
    assert_eq!(stack.delivery(event).await.attempts, UNREACHED);
    let next = stack.run().await;
    let other = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(other, "delivered").await;
    let gone = "select count(*) from posthaste.suspects";
    eventually("it panics once more", async || (stack.number(gone).await == 1).then_some(())).await;
    assert!(next.is_running());
}

/// Makes a delivery due for the attempt after the last one that there can be: the number overflows where it is published.
const UNREACHABLE: &str =
    "update posthaste.deliveries set attempts = 2147483647, next_attempt_at = now() - interval '1 hour'";
const REPAIR: &str = "update posthaste.deliveries set attempts = 0, status = 'held', next_attempt_at = now()";

#[tokio::test]
async fn a_relay_in_which_a_task_panics_ends_and_the_next_one_goes_on() {
    let (stack, receiver) = (Stack::with(&[("circuit.enabled", "false")]).await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.change(endpoint.id, "update posthaste.endpoints set status = 'disabled' where id = $1").await;
    let relay = stack.relay().await;
    let event = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(event, "held").await;
    relay.terminate();
    assert_eq!(relay.exit_code().await, Some(0));
    stack.change(endpoint.id, "update posthaste.endpoints set status = 'enabled' where id = $1").await;

    let proven = "insert into posthaste.markers (queue, published_at, recorded_at)
        values ('retry', now() - interval '10 minutes', now() - interval '9 minutes')";
    let listed = "insert into posthaste.relay_batches (relay, event_ids, endpoint_ids, claimed_at)
        select 1, array[event_id], array[endpoint_id], now() - interval '1 minute' from posthaste.deliveries";
    let trials = [
        ("the task 'release' panicked", vec!["update posthaste.deliveries set status = 'held'"]),
        ("the task 'duties' panicked", vec!["update posthaste.deliveries set status = 'retrying'", proven]),
        // Adoption is not a task of its own: the whole relay ends.
        ("adoption", vec!["update posthaste.deliveries set status = 'pending'", listed]),
    ];
    for (what, statements) in trials {
        stack.execute(UNREACHABLE).await;
        for statement in statements {
            stack.execute(statement).await;
        }
        let relay = stack.spawn("relay", &[]);
        assert_eq!(relay.exit_code().await, Some(1), "{what}");
        let failed = |line: &Value| line["what"].as_str().is_some_and(|text| text.contains(what)).then_some(());
        let panicked = |line: &Value| line["error"].as_str().is_some_and(|text| text.contains(what)).then_some(());
        if what != "adoption" {
            relay.logged(what, |line| failed(line).or_else(|| panicked(line))).await;
        }
        stack.execute("delete from posthaste.relay_batches").await;
        stack.execute("delete from posthaste.markers").await;
    }

    stack.execute(REPAIR).await;
    stack.run().await;
    assert_eq!(stack.wait_status(event, "delivered").await.attempts, 1);
    assert_eq!(receiver.count(), 1);
}
