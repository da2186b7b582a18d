//! Messages that carry no payload: the worker reads it from PostgreSQL. And both kinds at once, while somebody switches.

use uuid::Uuid;

use crate::harness::{Door, Receiver, Reply, Stack};

const REFERENCE: (&str, &str) = ("broker.payload", "reference");
const PAYLOAD: &str = "{ \"b\" :1,\n\t\"a\":  [ \"é🦀\" ] ,\"b\": 2 }";

/// Its payload, and how often it came.
fn assert_arrived(receiver: &Receiver, event: Uuid, times: usize) {
    let came: Vec<_> = receiver.requests().into_iter().filter(|request| request.id() == event.to_string()).collect();
    assert_eq!(came.len(), times, "{event}");
    assert!(came.iter().all(|request| request.body == PAYLOAD.as_bytes()), "byte for byte");
}

#[tokio::test]
async fn attempts_retries_and_dead_letters_need_no_payload_in_the_broker() {
    let (stack, receiver) = (Stack::with(&[REFERENCE]).await, Receiver::start());
    let door = Door::closed();
    let shut = door.clone();
    receiver.at("/", |n| if n < 3 { Reply::status(500) } else { Reply::ok() });
    receiver.at("/dead", |_| Reply::status(500));
    receiver.at("/off", move |_| Reply::ok().behind(&shut));
    for tenant in ["acme", "dead"] {
        let path = if tenant == "acme" { "/" } else { "/dead" };
        stack.endpoint(tenant, &receiver.url(path), &[]).await;
    }
    let off = stack.endpoint("off", &receiver.url("/off"), &[]).await.id.to_string();
    stack.cli(&["endpoint", "disable", &off]).await.ok();
    stack.run().await;

    let retried = stack.emit("acme", "order.created", PAYLOAD).await;
    let dead = stack.emit("dead", "order.created", PAYLOAD).await;
    let held = stack.emit("off", "order.created", PAYLOAD).await;

    stack.wait_status(retried, "delivered").await;
    stack.wait_status(dead, "dead").await;
    assert_arrived(&receiver, retried, 3);
    let dead_letter = stack.dead_letters(1).await.pop().unwrap();
    assert!(dead_letter.body.is_empty());
    // What PostgreSQL says without looking into it: with the length of the length.
    let told: usize = dead_letter.header("payload-bytes").parse().unwrap();
    assert!((PAYLOAD.len()..=PAYLOAD.len() + 4).contains(&told), "{told}");
    assert_eq!((dead_letter.header("dead-reason"), dead_letter.header("attempts")), ("exhausted", "3"));
    receiver.at("/dead", |_| Reply::ok());
    stack.cli(&["requeue", "--event", &dead.to_string(), "--yes"]).await.ok();
    stack.wait_status(dead, "delivered").await;
    assert_arrived(&receiver, dead, 4);
    stack.wait_status(held, "held").await;
    door.open();
    stack.cli(&["endpoint", "enable", &off]).await.ok();
    stack.wait_status(held, "delivered").await;
    assert_arrived(&receiver, held, 1);
}

#[tokio::test]
async fn a_broker_that_has_lost_everything_is_filled_again_with_references() {
    let settings = [REFERENCE, ("reconcile.interval", "200ms"), ("reconcile.grace", "0s"), ("delivery.timeout", "1s")];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let relay = stack.relay().await;
    let events =
        [stack.emit("acme", "order.created", PAYLOAD).await, stack.emit("acme", "order.created", PAYLOAD).await];
    stack.wait_relayed().await;
    stack.delete_queues(&["deliver", "retry"]).await;
    stack.cli(&["topology", "declare"]).await.ok();

    stack.worker().await;

    for event in events {
        stack.wait_status(event, "delivered").await;
        assert_arrived(&receiver, event, 1);
    }
    assert!(relay.metric("posthaste_lost_and_republished_total").await >= 2.0);
}

#[tokio::test]
async fn messages_with_and_without_payload_are_on_their_way_at_once_while_somebody_switches() {
    let settings = [("retry.schedule", r#"["1500ms"]"#)];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/", |n| if n == 1 { Reply::status(500) } else { Reply::ok() });
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    // Those of the old setting and of the new one, each with the work of the other.
    let mut events = Vec::new();
    for (relay, worker) in [("inline", "reference"), ("reference", "inline")] {
        let relay = stack.start("relay", &[("broker.payload", relay)]).await;
        let worker = stack.start("worker", &[("broker.payload", worker)]).await;
        let event = stack.emit("acme", "order.created", PAYLOAD).await;
        stack.wait_status(event, "retrying").await;
        for process in [relay, worker] {
            process.terminate();
            assert_eq!(process.exit_code().await, Some(0));
        }
        events.push(event);
    }

    stack.start("worker", &[]).await;

    for event in events {
        stack.wait_status(event, "delivered").await;
        assert_arrived(&receiver, event, 2);
    }
}

#[tokio::test]
async fn a_payload_that_is_gone_spends_no_attempt_and_one_that_is_back_is_sent() {
    let (stack, receiver) = (Stack::with(&[REFERENCE]).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let relay = stack.relay().await;
    let event = stack.emit("acme", "order.created", PAYLOAD).await;
    stack.wait_relayed().await;
    relay.kill();
    stack.execute("create table public.kept as select * from posthaste.events").await;
    stack.execute("delete from posthaste.events").await;
    let worker = stack.worker().await;

    let held = stack.wait_status(event, "held").await;

    assert_eq!((held.attempts, receiver.count()), (0, 0));
    worker.logged_message("the event of a delivery is gone, and with it the payload; held, no attempt spent").await;
    stack.execute("insert into posthaste.events select * from public.kept").await;
    stack.relay().await;
    stack.wait_status(event, "delivered").await;
    assert_arrived(&receiver, event, 1);
}
