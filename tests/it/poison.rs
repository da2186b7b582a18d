//! A message that kills its worker ends as poison; what lay beside it does not.

use std::time::Duration;

use uuid::Uuid;

use crate::harness::{Process, Receiver, Reply, Stack, eventually};

/// Kills each worker at the moment that its request to `/killer` arrives, until none comes any more: then the last worker is
/// alive, and the events of `killers` are dead.
async fn die_of(stack: &Stack, receiver: &Receiver, killers: &[Uuid]) -> (Process, usize) {
    let mut deaths = 0;
    loop {
        let worker = stack.worker().await;
        let all_dead = async || {
            let rows = stack.deliveries().await;
            killers.iter().all(|id| rows.iter().any(|row| row.event_id == *id && row.status == "dead"))
        };
        let killed = eventually("the worker dies of it, or it is dead", async || {
            if receiver.requests_to("/killer").len() > deaths {
                return Some(true);
            }
            all_dead().await.then_some(false)
        });
        if !killed.await {
            return (worker, deaths);
        }
        worker.kill();
        assert_eq!(worker.exit_code().await, None);
        deaths = receiver.requests_to("/killer").len();
        assert!(deaths < 40, "it never ends");
    }
}

#[tokio::test]
async fn a_message_that_kills_its_worker_again_and_again_ends_as_poison_and_innocents_beside_it_are_delivered() {
    const INNOCENTS: i32 = 20;
    let (stack, receiver) = (Stack::with(&[("reconcile.interval", "1h")]).await, Receiver::start());
    receiver.at("/killer", |_| Reply::hang());
    // Under way, and not answered, when the worker dies.
    receiver.at("/", |_| Reply::ok().after(Duration::from_millis(200)));
    stack.endpoint("killer", &receiver.url("/killer"), &[]).await;
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    stack.relay().await;
    let killer = stack.emit("killer", "order.created", "{}").await;
    let innocents = stack.emit_many("acme", "order.created", INNOCENTS).await;
    stack.wait_relayed().await;

    let (worker, deaths) = die_of(&stack, &receiver, &[killer]).await;

    println!("{deaths} workers died of it");
    let dead = stack.wait_status(killer, "dead").await;
    assert_eq!((dead.dead_reason.as_deref(), dead.attempts), (Some("poison"), 0));
    let letter = &stack.letters(1).await[0];
    let told = ["dead-reason", "attempts"].map(|name| letter.header(name).to_owned());
    assert_eq!(told, ["poison", "0"]);
    for innocent in innocents {
        assert_eq!(stack.wait_status(innocent, "delivered").await.attempts, 1);
    }
    let later = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(later, "delivered").await;
    assert!(worker.is_running());
    let counted = r#"posthaste_dead_letters_total{reason="poison"}"#;
    assert_eq!(worker.metrics().await.get(counted), Some(&1.0));
}

#[tokio::test]
async fn a_message_that_was_only_handed_out_often_is_delivered_and_leaves_no_suspicion() {
    let (stack, receiver) = (Stack::with(&[("reconcile.interval", "1h")]).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    eventually("the marker is there", async || (stack.depth("deliver").await == 1).then_some(())).await;
    stack.take("deliver").await;
    let event = stack.emit("acme", "order.created", "{}").await;
    stack.wait_relayed().await;
    for _ in 0..20 {
        stack.look_at("deliver").await;
    }

    stack.worker().await;

    assert_eq!(stack.wait_status(event, "delivered").await.attempts, 1);
    assert_eq!(stack.number("select count(*) from posthaste.suspects").await, 0);
}
