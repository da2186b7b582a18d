//! Several relays and workers share the work.

use std::collections::HashSet;

use crate::harness::{Process, Receiver, Stack, eventually};

#[tokio::test]
async fn two_relays_and_three_workers_share_the_work_without_skipping_or_doubling_an_event() {
    const EVENTS: i32 = 2_000;
    let (stack, receiver) = (Stack::with(&[("relay.batch_size", "50")]).await, Receiver::start());
    // More than all workers together can have in flight, so that little is held, if anything.
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "500"]).await;
    // Together, before either leads or sleeps.
    let relays = [stack.spawn("relay", &[]), stack.spawn("relay", &[])];
    let workers = [stack.spawn("worker", &[]), stack.spawn("worker", &[]), stack.spawn("worker", &[])];
    for process in relays.iter().chain(&workers) {
        process.ready().await;
    }
    let mut emitted = HashSet::new();
    for _ in 0..10 {
        emitted.extend(stack.emit_many("acme", "order.created", EVENTS / 10).await);
    }

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), i64::from(EVENTS))].into());

    let counts = receiver.counts();
    assert_eq!(counts.len(), EVENTS as usize);
    assert!(counts.values().all(|count| *count == 1), "posted twice: {}", receiver.count() - counts.len());
    assert!(emitted.iter().all(|id| counts.contains_key(&id.to_string())));
    let attempts = "select count(*) from posthaste.attempts where attempt = 1 and outcome = 'delivered'";
    assert_eq!(stack.number(attempts).await, i64::from(EVENTS));
    assert_eq!(stack.number("select count(*) from posthaste.relay_batches").await, 0);

    let sum = async |processes: &[Process], name: &str| {
        let mut sum = 0.0;
        for process in processes {
            sum += process.metric(name).await;
        }
        sum
    };
    // On a busy machine some wait too long for their turn and are sent on once more.
    let held = sum(&workers, "posthaste_held_total").await;
    assert_eq!(sum(&relays, "posthaste_relay_published_total").await, f64::from(EVENTS) + held);
    // An attempt is counted a moment after it was recorded.
    eventually("every attempt is counted", async || {
        (sum(&workers, "posthaste_attempts_total").await == f64::from(EVENTS)).then_some(())
    })
    .await;
    assert_eq!(sum(&workers, "posthaste_duplicates_discarded_total").await, 0.0);
    let busy = stack.number("select count(distinct worker) from posthaste.attempts").await;
    assert_eq!(busy, 3, "every worker took its part");
}
