//! A worker's statement is committed and its answer is lost: what follows from it happens all the same, and at once.

use serde_json::Value;
use sqlx::{Postgres, Transaction};
use uuid::Uuid;

use crate::harness::{Door, Process, Proxy, Receiver, Reply, Stack, eventually};

/// Nothing but the worker itself may repair what the lost answer left.
const ALONE: [(&str, &str); 1] = [("reconcile.interval", "1h")];

/// Whoever wants to change the delivery waits.
async fn lock(stack: &Stack, event: Uuid) -> Transaction<'static, Postgres> {
    let mut locking = stack.db.begin().await.unwrap();
    let lock = "select 1 from posthaste.deliveries where event_id = $1 for update";
    sqlx::query(lock).bind(event).execute(&mut *locking).await.unwrap();
    locking
}

/// Lets the worker commit its change of a locked delivery, swallows the answer, and breaks the connection.
async fn lose_the_answer(
    stack: &Stack,
    (worker, proxy): (&Process, &Proxy),
    event: Uuid,
    locking: Transaction<'static, Postgres>,
) {
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the worker's statement waits", async || (stack.number(waiting).await > 0).then_some(())).await;
    proxy.mute();
    locking.rollback().await.unwrap();
    let changed = async || (stack.delivery(event).await.status != "pending").then_some(());
    eventually("it is committed", changed).await;
    proxy.cut();
    // Not that of a marker, whose connection may have failed before anything was cut.
    let failed = |line: &Value| {
        (line["message"] == "database operation failed; trying again" && line["what"] != "record a marker")
            .then_some(())
    };
    worker.logged("its change has failed", failed).await;
    proxy.forward();
}

/// The worker's first attempt, with this answer, is recorded without its knowledge. It goes on through the proxy.
async fn attempt(stack: &Stack, receiver: &Receiver, status: u16) -> (Uuid, Proxy) {
    let (door, proxy) = (Door::closed(), Proxy::to(&stack.binary.database_url));
    let behind = door.clone();
    receiver.at("/", move |n| if n == 1 { Reply::status(status).behind(&behind) } else { Reply::ok() });
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    let worker = stack.start("worker", &[("database.url", &proxy.url(&stack.binary.database_url))]).await;
    let event = stack.emit("acme", "order.created", "{}").await;
    receiver.wait_for(1).await;
    let locking = lock(stack, event).await;
    door.open();
    lose_the_answer(stack, (&worker, &proxy), event, locking).await;
    (event, proxy)
}

#[tokio::test]
async fn the_next_attempt_follows_a_recorded_one_whose_answer_was_lost() {
    let (stack, receiver) = (Stack::with(&ALONE).await, Receiver::start());

    let (event, _proxy) = attempt(&stack, &receiver, 500).await;

    assert_eq!(stack.wait_status(event, "delivered").await.attempts, 2);
    assert_eq!(receiver.count(), 2);
}

#[tokio::test]
async fn the_dead_letter_follows_a_recorded_death_whose_answer_was_lost() {
    let (stack, receiver) = (Stack::with(&ALONE).await, Receiver::start());

    let (event, _proxy) = attempt(&stack, &receiver, 410).await;

    assert_eq!(stack.wait_status(event, "dead").await.attempts, 1);
    assert_eq!(stack.dead_letters(1).await[0].header("dead-reason"), "gone");
    assert_eq!(receiver.count(), 1);
}

#[tokio::test]
async fn the_dead_letter_follows_a_death_without_an_attempt_whose_answer_was_lost() {
    let (stack, receiver) = (Stack::with(&ALONE).await, Receiver::start());
    let proxy = Proxy::to(&stack.binary.database_url);
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    let event = stack.emit("acme", "order.created", "{}").await;
    stack.wait_relayed().await;
    stack.change(endpoint.id, "delete from posthaste.endpoints where id = $1").await;
    let locking = lock(&stack, event).await;
    let worker = stack.start("worker", &[("database.url", &proxy.url(&stack.binary.database_url))]).await;

    lose_the_answer(&stack, (&worker, &proxy), event, locking).await;

    assert_eq!(stack.wait_status(event, "dead").await.attempts, 0);
    assert_eq!(stack.dead_letters(1).await[0].header("dead-reason"), "endpoint_removed");
    assert_eq!(receiver.count(), 0);
}
