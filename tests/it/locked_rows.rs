//! One row that somebody has locked, or that the database refuses, keeps no other delivery waiting.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::harness::{Door, Receiver, Reply, Stack, eventually};

#[tokio::test]
async fn an_endpoint_that_is_locked_and_gone_keeps_no_attempt_from_being_recorded() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/gone", |_| Reply::status(410));
    let gone = stack.endpoint("gone", &receiver.url("/gone"), &[]).await;
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let mut operator = stack.db.begin().await.unwrap();
    let lock = "select 1 from posthaste.endpoints where id = $1 for update";
    sqlx::query(lock).bind(gone.id).execute(&mut *operator).await.unwrap();

    // More statements than the worker has under way at once.
    for _ in 0..3 {
        let event = stack.emit("gone", "order.created", "{}").await;
        assert_eq!(stack.wait_status(event, "dead").await.dead_reason.as_deref(), Some("gone"));
    }
    let other = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(other, "delivered").await;

    operator.rollback().await.unwrap();
    let disabled = "select count(*) from posthaste.endpoints where status = 'disabled'";
    eventually("it is disabled", async || (stack.number(disabled).await == 1).then_some(())).await;
    let held = stack.emit("gone", "order.created", "{}").await;
    stack.wait_status(held, "held").await;
}

/// Requests that are answered together, so that their attempts are recorded together: some of `/odd`, many others.
async fn answered_together(stack: &Stack, receiver: &Receiver, door: &Door) -> (Vec<Uuid>, Vec<Uuid>) {
    let (odd_door, door) = (door.clone(), door.clone());
    receiver.at("/odd", move |_| Reply::ok().body("odd").behind(&odd_door));
    receiver.at("/", move |_| Reply::ok().behind(&door));
    stack.endpoint("odd", &receiver.url("/odd"), &[]).await;
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let odd = stack.emit_many("odd", "order.created", 2).await;
    let others = stack.emit_many("acme", "order.created", 12).await;
    receiver.wait_for(14).await;
    (odd, others)
}

#[tokio::test]
async fn deliveries_that_are_locked_keep_no_other_from_being_recorded() {
    let (stack, receiver, door) = (Stack::new().await, Receiver::start(), Door::closed());
    let (odd, others) = answered_together(&stack, &receiver, &door).await;
    let mut operator = stack.db.begin().await.unwrap();
    let lock = "select 1 from posthaste.deliveries where event_id = any ($1) for update";
    sqlx::query(lock).bind(&odd).execute(&mut *operator).await.unwrap();

    door.open();

    for event in others {
        stack.wait_status(event, "delivered").await;
    }
    for event in &odd {
        assert_eq!(stack.delivery(*event).await.attempts, 0, "it is locked");
    }
    operator.rollback().await.unwrap();
    for event in odd {
        assert_eq!(stack.wait_status(event, "delivered").await.attempts, 1);
    }
    assert_eq!(receiver.count(), 14, "each request was made once");
}

#[tokio::test]
async fn an_attempt_that_the_database_refuses_is_not_spent_and_keeps_no_other_from_being_recorded() {
    let (stack, receiver, door) = (Stack::new().await, Receiver::start(), Door::closed());
    stack.execute("alter table posthaste.attempts add constraint odd check (response_body <> 'odd')").await;
    let (odd, others) = answered_together(&stack, &receiver, &door).await;

    door.open();

    for event in others {
        stack.wait_status(event, "delivered").await;
    }
    for event in &odd {
        assert_eq!(stack.wait_status(*event, "held").await.attempts, 0);
    }
    stack.execute("alter table posthaste.attempts drop constraint odd").await;
    for event in odd {
        assert_eq!(stack.wait_status(event, "delivered").await.attempts, 1);
    }
}

#[tokio::test]
async fn deliveries_that_are_locked_keep_no_other_from_being_held() {
    let (stack, receiver) = (Stack::with(&[("reconcile.interval", "1h")]).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    let events = stack.emit_many("acme", "order.created", 14).await;
    stack.wait_relayed().await;
    stack.execute("update posthaste.endpoints set status = 'disabled'").await;
    let mut operator = stack.db.begin().await.unwrap();
    let lock = "select 1 from posthaste.deliveries where event_id = any ($1) for update";
    sqlx::query(lock).bind(&events[..2]).execute(&mut *operator).await.unwrap();

    stack.worker().await;

    stack.wait_statuses("held", 12).await;
    operator.rollback().await.unwrap();
    stack.wait_statuses("held", 14).await;
    assert_eq!(receiver.count(), 0);
}

#[tokio::test]
async fn many_endpoints_that_are_locked_and_fail_keep_no_other_from_being_delivered() {
    const LOCKED: usize = 12;
    let few = [("circuit.min_failures", "1"), ("circuit.min_duration", "0s"), ("database.max_connections", "4")];
    let (stack, receiver) = (Stack::with(&few).await, Receiver::start());
    receiver.at("/bad", |_| Reply::status(500));
    for _ in 0..LOCKED {
        stack.endpoint("bad", &receiver.url("/bad"), &[]).await;
    }
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let mut operator = stack.db.begin().await.unwrap();
    let lock = "select 1 from posthaste.endpoints where tenant = 'bad' for update";
    sqlx::query(lock).execute(&mut *operator).await.unwrap();

    // The failures of each would open its circuit.
    stack.emit("bad", "order.created", "{}").await;
    receiver.wait_until("all of them fail", |all| all.iter().filter(|r| r.path == "/bad").count() >= LOCKED).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let began = Instant::now();
        let event = stack.emit("acme", "order.created", "{}").await;
        stack.wait_status(event, "delivered").await;
        slowest = slowest.max(began.elapsed());
    }

    println!("the slowest of the others took {slowest:?}");
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    operator.rollback().await.unwrap();
    let opened = "select count(*) from posthaste.endpoints where circuit_trips > 0";
    eventually("their circuits open", async || (stack.number(opened).await == LOCKED as i64).then_some(())).await;
}
