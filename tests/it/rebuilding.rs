//! The broker loses messages, queues or everything: PostgreSQL rebuilds it, and takes no backlog for a loss.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use serde_json::json;
use uuid::Uuid;

use crate::harness::{Process, Receiver, Reply, Stack, eventually, within};

/// As fast as losses can be told from backlogs: about ten seconds, five of them for the way from commit to broker.
pub const SOON: [(&str, &str); 5] = [
    ("reconcile.interval", "200ms"),
    ("reconcile.grace", "500ms"),
    ("delivery.timeout", "1s"),
    ("worker.concurrency", "8"),
    ("worker.prefetch", "8"),
];

/// A marker that was deleted with its queue is given up after a while; only then a new one proves the loss.
pub const REBUILD: Duration = Duration::from_secs(90);

async fn soon(settings: &[(&str, &str)]) -> Stack {
    Stack::with(&[&SOON, settings].concat()).await
}

async fn stopped(process: Process) {
    process.terminate();
    assert_eq!(process.exit_code().await, Some(0));
}

/// Whether every exchange and queue is there as configured.
async fn is_whole(stack: &Stack) -> bool {
    stack.cli(&["topology", "check"]).await.code == 0
}

/// How often each attempt of each event was asked for.
pub fn asked(receiver: &Receiver) -> HashMap<(String, String), usize> {
    let mut asked = HashMap::new();
    for request in receiver.requests() {
        *asked.entry((request.id().to_owned(), request.header("posthaste-attempt").to_owned())).or_default() += 1;
    }
    asked
}

#[tokio::test]
async fn whatever_was_in_the_queues_comes_back_when_they_are_deleted() {
    // With a circuit most of what fails would wait in PostgreSQL, where nothing has to come back.
    let stack = soon(&[("retry.schedule", r#"["3s", "4s"]"#), ("circuit.enabled", "false")]).await;
    let receiver = Receiver::start();
    receiver.at("/flaky", |n| if n == 1 { Reply::status(500) } else { Reply::ok() });
    stack.endpoint("flaky", &receiver.url("/flaky"), &[]).await;
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let relay = stack.relay().await;
    let worker = stack.worker().await;
    let retrying = stack.emit_many("flaky", "order.created", 30).await;
    stack.wait_statuses("retrying", 30).await;
    stopped(worker).await;
    let pending = stack.emit_many("acme", "order.created", 40).await;
    stack.wait_relayed().await;

    stack.delete_queues(&["deliver", "retry", "delay.3000", "delay.4000"]).await;
    let began = Instant::now();
    stack.worker().await;

    let finished = async || (stack.statuses().await.get("delivered") == Some(&70)).then_some(());
    within(REBUILD, "everything is delivered", finished).await;
    stack.wait_settled().await;
    println!("70 deliveries were rebuilt {:?} after every queue was gone", began.elapsed());
    assert!(is_whole(&stack).await);
    let asked = asked(&receiver);
    assert!(asked.values().all(|count| *count == 1), "each attempt once: {asked:?}");
    assert_eq!(asked.len(), 40 + 2 * 30);
    let attempts: BTreeMap<Uuid, i32> = stack.deliveries().await.iter().map(|d| (d.event_id, d.attempts)).collect();
    assert!(pending.iter().all(|id| attempts[id] == 1) && retrying.iter().all(|id| attempts[id] == 2));
    assert_eq!(relay.metric("posthaste_lost_and_republished_total").await, 70.0);
}

/// RabbitMQ 3.10 neither cancels nor serves the consumers of a quorum queue that is back at once.
#[tokio::test]
async fn workers_whose_queue_was_deleted_and_is_back_at_once_get_its_messages() {
    let (stack, receiver) = (soon(&[]).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    stack.emit_many("acme", "order.created", 20).await;
    stack.wait_statuses("delivered", 20).await;

    stack.replace_queue("deliver").await;
    stack.emit_many("acme", "order.created", 100).await;

    let finished = async || (stack.statuses().await.get("delivered") == Some(&120)).then_some(());
    within(REBUILD, "everything is delivered", finished).await;
    assert!(is_whole(&stack).await);
}

#[tokio::test]
async fn the_relay_and_the_worker_each_declare_again_what_is_gone() {
    let (stack, receiver) = (soon(&[]).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let all = ["deliver", "retry", "delay.300", "delay.600", "dead"];
    let relay = stack.relay().await;
    stack.delete_queues(&all).await;
    let first = stack.emit("acme", "order.created", "{}").await;
    eventually("the relay has declared everything", async || is_whole(&stack).await.then_some(())).await;
    stack.wait_relayed().await;
    stopped(relay).await;

    stack.worker().await;
    stack.wait_status(first, "delivered").await;
    stack.delete_queues(&all).await;
    eventually("the worker has declared everything", async || is_whole(&stack).await.then_some(())).await;

    stack.relay().await;
    let second = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(second, "delivered").await;
}

#[tokio::test]
async fn a_backlog_behind_a_slow_worker_is_not_taken_for_a_loss() {
    const EVENTS: i32 = 400;
    let stack = soon(&[("worker.concurrency", "2"), ("worker.prefetch", "2")]).await;
    let receiver = Receiver::start();
    receiver.at("/", |_| Reply::ok().after(Duration::from_millis(50)));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let relay = stack.relay().await;
    stack.emit_many("acme", "order.created", EVENTS).await;
    // The rest waits in the outbox, and some of it claimed in the relay.
    eventually("some are published", async || (stack.depth("deliver").await > 25).then_some(())).await;
    let began = Instant::now();
    stack.worker().await;
    receiver.wait_for(EVENTS as usize / 2).await;

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), i64::from(EVENTS))].into());

    assert!(began.elapsed() > Duration::from_secs(15), "too short a backlog to tell: {:?}", began.elapsed());
    // The other queue's markers came through long after everything was due: whoever asked them would see losses.
    let other = "select count(*) from posthaste.markers where queue = 'retry'
                    and published_at > (select max(created_at) from posthaste.events) + interval '8 seconds'";
    assert!(stack.number(other).await > 0, "markers flow");
    assert_eq!(relay.metric("posthaste_lost_and_republished_total").await, 0.0);
    assert!(receiver.counts().values().all(|count| *count == 1));
}

#[tokio::test]
async fn markers_come_through_both_queues_and_measure_their_latency() {
    let stack = soon(&[]).await;
    let process = stack.run().await;
    for queue in ["deliver", "retry"] {
        let series = format!(r#"posthaste_queue_latency_seconds_count{{queue="{queue}"}}"#);
        eventually(&series, async || (*process.metrics().await.get(&series)? >= 2.0).then_some(())).await;
    }
    let recorded = "select count(distinct queue) from posthaste.markers where recorded_at >= published_at";
    assert_eq!(stack.number(recorded).await, 2);
}

/// Rows that became due some seconds ago, without the way there.
async fn insert(stack: &Stack, endpoint: Uuid, status: &str, attempts: i32, due_seconds: i32) -> Uuid {
    let insert = "with e as (
           insert into posthaste.events (id, tenant, event_type, payload, created_at)
           values (posthaste.uuid_v7(), 'acme', 'order.created', '{}', now()) returning id)
         insert into posthaste.deliveries (event_id, endpoint_id, status, attempts, base_attempts, max_attempts,
                next_attempt_at, dead_reason)
         select id, $1, $2, $3, 0, 5, case when $2 in ('pending', 'retrying', 'held') then now() - $4 * interval '1 second' end,
                case when $2 = 'dead' then 'exhausted' end
           from e returning event_id";
    let insert = sqlx::query_scalar(insert).bind(endpoint).bind(status).bind(attempts).bind(due_seconds);
    insert.fetch_one(&stack.db).await.unwrap()
}

#[tokio::test]
async fn the_command_says_what_is_lost_and_publishes_that_and_nothing_else() {
    let stack = soon(&[]).await;
    stack.cli(&["topology", "declare"]).await.ok();
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let lost = [
        insert(&stack, endpoint, "pending", 0, 100).await,
        insert(&stack, endpoint, "retrying", 2, 100).await,
        insert(&stack, endpoint, "pending", 1, 70).await,
    ];
    for (status, attempts, due) in [("held", 0, 100), ("held", 2, 100), ("dead", 1, 100), ("delivered", 1, 100)] {
        insert(&stack, endpoint, status, attempts, due).await;
    }
    // Due after the marker was published, or so shortly before that they may still have been on their way.
    for (status, attempts, due) in [("pending", 0, 50), ("retrying", 1, 62), ("retrying", 1, -100)] {
        insert(&stack, endpoint, status, attempts, due).await;
    }
    let before = stack.deliveries().await;
    let dry = ["reconcile", "--dry-run", "--json"];
    let proof = async |queue: &str, recorded_seconds_ago: i32| {
        let insert = "insert into posthaste.markers (queue, published_at, recorded_at)
            values ($1, now() - interval '60 seconds', now() - $2 * interval '1 second') on conflict do nothing";
        sqlx::query(insert).bind(queue).bind(recorded_seconds_ago).execute(&stack.db).await.unwrap();
    };
    assert_eq!(stack.cli(&dry).await.json()["lost"], json!(0), "without a marker nothing is proven");
    proof("retry", 1).await;
    assert_eq!(stack.cli(&dry).await.json()["lost"], json!(0), "within the grace of the recording neither");
    proof("retry", 50).await;
    assert_eq!(stack.cli(&dry).await.json()["lost"], json!(2), "a first attempt may be in the other queue");
    proof("deliver", 50).await;

    let planned = stack.cli(&dry).await.json();

    assert_eq!((&planned["lost"], &planned["republished"], &planned["letters"]), (&json!(3), &json!(0), &json!(null)));
    let examples = planned["examples"].as_array().unwrap();
    let named: BTreeSet<&str> = examples.iter().map(|example| example["event_id"].as_str().unwrap()).collect();
    let expected: Vec<String> = lost.iter().map(Uuid::to_string).collect();
    assert_eq!(named, expected.iter().map(String::as_str).collect());
    assert!(planned["proof"]["retry"].is_string() && planned["proof"]["deliver"].is_string());
    assert_eq!(
        (stack.deliveries().await, stack.depth("retry").await),
        (before.clone(), 0),
        "a dry run changes nothing"
    );
    let done = stack.cli(&["reconcile", "--json"]).await.json();
    assert_eq!((&done["lost"], &done["republished"]), (&json!(3), &json!(3)));
    assert_eq!((stack.depth("retry").await, stack.depth("deliver").await), (3, 0));
    for (old, new) in before.into_iter().zip(stack.deliveries().await) {
        if lost.contains(&new.event_id) {
            assert!(new.next_attempt_at > old.next_attempt_at, "due now");
            assert_eq!(crate::harness::Delivery { next_attempt_at: old.next_attempt_at, ..new }, old);
        } else {
            assert_eq!(new, old);
        }
    }
    assert_eq!(stack.cli(&["reconcile", "--json"]).await.json()["republished"], json!(0), "once is enough");
}
