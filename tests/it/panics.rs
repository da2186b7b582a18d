//! Code of ours that panics: at one message, or in a task that others rely on. Numbers that no message and no row of ours has
//! overflow in it.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};
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
    assert_eq!(stack.letters(1).await[0].header("dead-reason"), "poison");
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
