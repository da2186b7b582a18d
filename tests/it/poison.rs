//! A message that kills its worker ends as poison; what lay beside it does not.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use uuid::{NoContext, Timestamp, Uuid};

use crate::harness::{Door, Process, Receiver, Reply, Stack, eventually, within};

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
    let dead_letter = &stack.dead_letters(1).await[0];
    let told = ["dead-reason", "attempts"].map(|name| dead_letter.header(name).to_owned());
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

/// How often each event was asked for.
fn arrivals(receiver: &Receiver) -> HashMap<Uuid, usize> {
    let mut arrivals = HashMap::new();
    for request in receiver.requests() {
        *arrivals.entry(request.id().parse().unwrap()).or_default() += 1;
    }
    arrivals
}

/// Workers that die again and again, of something else, condemn none of the messages that they have in hand each time.
#[tokio::test]
async fn a_crash_loop_condemns_no_message() {
    const INNOCENTS: i32 = 2;
    // Enough for several messages to be tried alone three times, if young workers dared.
    const DEATHS: usize = 20;
    let (stack, receiver) = (Stack::with(&[("reconcile.interval", "1h")]).await, Receiver::start());
    let door = Door::closed();
    let behind = door.clone();
    receiver.at("/slow", move |_| Reply::ok().behind(&behind));
    receiver.at("/next", |_| Reply::hang());
    stack.endpoint("slow", &receiver.url("/slow"), &["--max-in-flight", "100"]).await;
    stack.endpoint("next", &receiver.url("/next"), &["--max-in-flight", "100"]).await;
    stack.relay().await;
    let innocents = stack.emit_many("slow", "order.created", INNOCENTS).await;
    stack.wait_relayed().await;

    for _ in 0..DEATHS {
        let before = arrivals(&receiver);
        let worker = stack.worker().await;
        let next = stack.emit("next", "order.created", "{}").await;
        // Everything is in its hands, but for what it does not try.
        let busy = async || {
            let (now, rows) = (arrivals(&receiver), stack.deliveries().await);
            let arrived = |id: &Uuid| now.get(id) > before.get(id);
            let is_held = |id: &Uuid| rows.iter().any(|row| row.event_id == *id && row.status == "held");
            (arrived(&next) && innocents.iter().all(|id| arrived(id) || is_held(id))).then_some(())
        };
        eventually("it works", busy).await;
        worker.kill();
        assert_eq!(worker.exit_code().await, None);
    }

    let tried_twice = "select count(*) from posthaste.suspects where unfinished >= 2";
    assert!(stack.number(tried_twice).await > 0, "some are suspects that may be tried alone only");
    receiver.at("/next", |_| Reply::ok());
    door.open();
    stack.worker().await;
    let all = INNOCENTS as i64 + DEATHS as i64;
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), all)].into());
    cleared(&stack).await;
}

/// An event whose message the broker has handed out so often that workers may have died of it.
async fn handed_out_often(stack: &Stack, receiver: &Receiver) -> Uuid {
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.relay().await;
    stack.wait_depth("deliver", 1).await;
    stack.take("deliver").await;
    let event = stack.emit("acme", "order.created", "{}").await;
    stack.wait_relayed().await;
    for _ in 0..20 {
        stack.look_at("deliver").await;
    }
    event
}

/// A suspect is cleared a moment after its attempt is recorded.
async fn cleared(stack: &Stack) {
    eventually("nobody is a suspect any more", async || (suspects(stack).await == 0).then_some(())).await;
}

async fn suspects(stack: &Stack) -> i64 {
    stack.number("select count(*) from posthaste.suspects").await
}

#[tokio::test]
async fn a_message_that_was_only_handed_out_often_is_delivered_and_leaves_no_suspicion() {
    let (stack, receiver) = (Stack::with(&[("reconcile.interval", "1h")]).await, Receiver::start());
    let event = handed_out_often(&stack, &receiver).await;

    stack.worker().await;

    assert_eq!(stack.wait_status(event, "delivered").await.attempts, 1);
    cleared(&stack).await;
}

#[tokio::test]
async fn a_stop_in_the_middle_of_a_suspects_attempt_does_not_count_against_it() {
    let settings = [("reconcile.interval", "1h"), ("shutdown.grace", "500ms")];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/", |n| if n <= 2 { Reply::hang() } else { Reply::ok() });
    let event = handed_out_often(&stack, &receiver).await;
    for requests in 1..=2 {
        let worker = stack.worker().await;
        receiver.wait_for(requests).await;
        assert_eq!(stack.number("select sum(unfinished) from posthaste.suspects").await, 1, "it is noted");

        worker.terminate();

        assert_eq!(worker.exit_code().await, Some(0));
        assert_eq!(stack.number("select count(*) from posthaste.suspects").await, 0, "and taken back");
    }
    stack.worker().await;
    assert_eq!(stack.wait_status(event, "delivered").await.attempts, 1);
}

/// Dead deliveries of events of that age. Workers seem to have died twice of the attempt that is due after a requeue.
async fn tried_twice(stack: &Stack, endpoint: Uuid, count: u64, age: Duration) {
    const INSERT: &str = "with e as (
           insert into posthaste.events (id, tenant, event_type, payload, created_at)
           select id, 'slow', 'order.created', '{}', now() from unnest($2::uuid[]) id returning id),
         d as (
           insert into posthaste.deliveries (event_id, endpoint_id, status, attempts, base_attempts, max_attempts,
                  dead_reason, updated_at)
           select id, $1, 'dead', 1, 0, 1, 'exhausted', now() - interval '5 minutes' from e)
         insert into posthaste.suspects (event_id, endpoint_id, attempt, unfinished) select id, $1, 2, 2 from e";
    let emitted = (SystemTime::now() - age).duration_since(UNIX_EPOCH).unwrap();
    let emitted = Timestamp::from_unix(NoContext, emitted.as_secs(), emitted.subsec_nanos());
    let ids: Vec<Uuid> = (0..count).map(|_| Uuid::new_v7(emitted)).collect();
    sqlx::query(INSERT).bind(endpoint).bind(ids).execute(&stack.db).await.unwrap();
}

/// They are tried one at a time, and do not all come at one time.
#[tokio::test]
async fn many_suspects_are_cleared_soon_where_the_receiver_is_prompt() {
    const SUSPECTS: u64 = 150;
    /// The older an event, the longer a fault of ours holds it.
    const AGE: Duration = Duration::from_secs(240);
    /// If all of them came together again and again, most would be sent back each time.
    const SOON: Duration = Duration::from_secs(80);
    let (stack, receiver) = (Stack::with(&[("reconcile.interval", "1h")]).await, Receiver::start());
    receiver.at("/", |_| Reply::ok().after(Duration::from_millis(50)));
    stack.cli(&["topology", "declare"]).await.ok();
    let endpoint = stack.endpoint("slow", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    tried_twice(&stack, endpoint.id, SUSPECTS, AGE).await;
    stack.cli(&["requeue", "--all", "--yes"]).await.ok();

    stack.run().await;

    let began = Instant::now();
    within(SOON, "nobody is a suspect any more", async || (suspects(&stack).await == 0).then_some(())).await;
    println!("{SUSPECTS} suspects were cleared in {:?}", began.elapsed());
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), SUSPECTS as i64)].into());
}

#[tokio::test]
async fn suspects_that_wait_for_their_trial_keep_no_place_from_others() {
    const SUSPECTS: i64 = 40;
    let (stack, receiver) = (Stack::with(&[("reconcile.interval", "1h")]).await, Receiver::start());
    let door = Door::closed();
    let behind = door.clone();
    receiver.at("/slow", move |_| Reply::ok().behind(&behind));
    stack.cli(&["topology", "declare"]).await.ok();
    let slow = stack.endpoint("slow", &receiver.url("/slow"), &["--max-in-flight", "100"]).await;
    tried_twice(&stack, slow.id, SUSPECTS as u64, Duration::ZERO).await;
    let healthy = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let innocent = stack.dead(healthy.id, ("acme", "order.created"), "exhausted", 5).await;
    stack.cli(&["requeue", "--all", "--yes"]).await.ok();

    stack.worker().await;

    stack.wait_status(innocent, "delivered").await;
    stack.wait_statuses("held", SUSPECTS).await;
    assert_eq!(receiver.requests_to("/slow").len(), 0, "a worker that has just started tries none");
    stack.relay().await;
    receiver.wait_for(2).await;
    let later = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(later, "delivered").await;
    stack.wait_statuses("held", SUSPECTS - 1).await;
    assert_eq!(receiver.requests_to("/slow").len(), 1, "one is tried, alone");
    door.open();
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), SUSPECTS + 2)].into());
    cleared(&stack).await;
}
