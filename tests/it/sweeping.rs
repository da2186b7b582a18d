//! The dead-letter queue is put right: by one at a time, without losing what is still dead, and at a cost that follows
//! what is requeued.

use std::time::Instant;

use posthaste::store::dead_endpoints;
use posthaste::store::requeue::{self, Filter, Next};
use serde_json::{Value, json};
use sqlx::Connection;
use uuid::Uuid;

use crate::harness::{Stack, eventually};
use crate::held_at_scale::{assert_few, touched};

const MANY: i64 = 5_000;

/// So many dead deliveries of one endpoint. A statement about all of them would read thousands of blocks.
async fn many_dead(stack: &Stack, endpoint: Uuid) -> Uuid {
    let insert = "with e as (
           insert into posthaste.events (id, tenant, event_type, payload, created_at)
           select posthaste.uuid_v7(), 'acme', 'order.created', '{}', now() from generate_series(1, $2) returning id)
         insert into posthaste.deliveries (event_id, endpoint_id, status, attempts, max_attempts, next_attempt_at, dead_reason, updated_at)
         select id, $1, 'dead', 1, 1, null, 'exhausted', now() - interval '1 hour' from e returning event_id";
    let events: Vec<Uuid> =
        sqlx::query_scalar(insert).bind(endpoint).bind(MANY).fetch_all(&stack.db).await.expect(insert);
    stack.execute("analyze").await;
    events[events.len() / 2]
}

#[tokio::test]
async fn a_requeue_of_one_event_reads_that_event_and_not_all_that_is_dead() {
    let stack = Stack::new().await;
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let event = many_dead(&stack, endpoint).await;
    let filter = Filter { events: vec![event], ..Filter::default() };
    let next = Next { endpoint, after: Uuid::nil(), limit: 500, behind: false };

    let (endpoints, reads) = touched(&stack, async |db| dead_endpoints::that_match(&db, &filter).await.unwrap()).await;
    assert_eq!(endpoints, [endpoint]);
    assert_few("whose they are", &reads, 200, 10);
    let (count, reads) = touched(&stack, async |db| requeue::count(&db, endpoint, &filter).await.unwrap()).await;
    assert_eq!(count, 1);
    assert_few("counting", &reads, 200, 20);
    let (made, reads) = touched(&stack, async |db| requeue::grant(&db, 17, &filter, next).await.unwrap()).await;
    assert_eq!((made.deliveries, made.batch.messages.len()), (1, 1));
    assert_few("granting", &reads, 300, 25);
    let listed = touched(&stack, async |db| requeue::list(&db, &filter, 100).await.unwrap()).await;
    assert_few("listing", &listed.1, 200, 20);
}

#[tokio::test]
async fn a_long_dead_letter_queue_is_written_and_swept_in_seconds_or_left_alone_when_asked() {
    let stack = Stack::new().await;
    stack.cli(&["topology", "declare"]).await.ok();
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let event = many_dead(&stack, endpoint).await.to_string();
    let took = |began: Instant| began.elapsed().as_millis();
    let began = Instant::now();
    let written = stack.cli(&["reconcile", "--json"]).await.json()["letters"].clone();
    println!("{MANY} dead letters were written in {} ms", took(began));
    assert_eq!(written, json!({"kept": 0, "dropped": 0, "written": MANY, "refused": 0, "erased": 0}));
    let requeue = ["requeue", "--event", &event, "--yes", "--json"];

    let quick = stack.cli(&[&requeue[..], &["--no-sweep"]].concat()).await.json();

    assert_eq!((&quick["requeued"], &quick["letters"]), (&json!(1), &Value::Null));
    assert_eq!(i64::from(stack.depth("dead").await), MANY, "its dead letter is still there");
    let began = Instant::now();
    let swept = stack.cli(&requeue).await.json();
    println!("{MANY} dead letters were swept in {} ms", took(began));
    assert_eq!((&swept["matched"], &swept["requeued"]), (&json!(0), &json!(0)), "it is not dead any more");
    assert_eq!(swept["letters"], json!({"kept": MANY - 1, "dropped": 1, "written": 0, "refused": 0, "erased": 0}));
    eventually("what is still dead", async || (i64::from(stack.depth("dead").await) == MANY - 1).then_some(())).await;
}

#[tokio::test]
async fn what_the_broker_gave_up_gets_a_letter_of_ours_in_the_same_sweep() {
    let stack = Stack::new().await;
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let relay = stack.relay().await;
    stack.wait_depth("deliver", 1).await;
    stack.take("deliver").await;
    let event = stack.emit("acme", "order.created", r#"{"n": 1}"#).await;
    stack.wait_depth("deliver", 1).await;
    relay.kill();
    let message = stack.take("deliver").await;
    // The broker's own dead letter is the message as it was.
    stack.publish_to(&stack.queue("dead"), "dead", message.clone(), br#"{"n": 1}"#).await;

    let swept = stack.cli(&["reconcile", "--json"]).await.json()["letters"].clone();

    assert_eq!(swept, json!({"kept": 1, "dropped": 1, "written": 0, "refused": 0, "erased": 0}));
    let dead_letter = stack.dead_letters(1).await.remove(0);
    assert_eq!((dead_letter.header("dead-reason"), dead_letter.header("attempts")), ("poison", "0"));
    assert_eq!(dead_letter.header("endpoint-id"), endpoint.to_string());
    assert_eq!(stack.delivery(event).await.dead_reason.as_deref(), Some("poison"));
    // And where it is met in a long queue.
    many_dead(&stack, endpoint).await;
    let other = stack.emit("acme", "order.created", "{}").await;
    stack.cli(&["reconcile"]).await.ok();
    let relay = stack.relay().await;
    eventually("it is published", async || (stack.depth("deliver").await >= 1).then_some(())).await;
    stack.wait_relayed().await;
    relay.kill();
    let id = other.to_string();
    let own = loop {
        let message = stack.take("deliver").await;
        if message.message_id().as_ref().is_some_and(|found| found.as_str() == id) {
            break message;
        }
    };
    stack.publish_to(&stack.queue("dead"), "dead", own, b"{}").await;
    let swept = stack.cli(&["reconcile", "--json"]).await.json()["letters"].clone();
    assert_eq!(swept, json!({"kept": MANY + 2, "dropped": 1, "written": 0, "refused": 0, "erased": 0}));
    assert_eq!(stack.cli(&["reconcile", "--json"]).await.json()["letters"]["kept"], json!(MANY + 2));
}

#[tokio::test]
async fn only_one_sweeps_at_a_time() {
    let stack = Stack::new().await;
    stack.cli(&["topology", "declare"]).await.ok();
    let endpoint = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    stack.dead(endpoint, ("acme", "order.created"), "exhausted", 10).await;
    let mut requeue = sqlx::PgConnection::connect(&stack.binary.database_url).await.unwrap();
    // The lock that a requeue holds.
    let lock = "select pg_advisory_lock(x'70680002'::int, 2)";
    sqlx::query(lock).execute(&mut requeue).await.unwrap();

    let done = stack.cli(&["reconcile", "--json"]).await;

    assert!(done.stderr.contains("the dead-letter queue is left to it"), "{}", done.stderr);
    assert_eq!((&done.json()["letters"], stack.depth("dead").await), (&Value::Null, 0));
    requeue.close().await.unwrap();
    assert_eq!(stack.cli(&["reconcile", "--json"]).await.json()["letters"]["written"], json!(1));
}

#[tokio::test]
async fn one_delivery_of_an_event_with_very_many_is_shown() {
    let stack = Stack::new().await;
    let last = Uuid::max();
    let event = stack.dead(last, ("acme", "order.created"), "exhausted", 10).await;
    let others = "insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts)
        select $1, md5(n::text)::uuid, 'delivered', 1 from generate_series(1, 1500) n";
    sqlx::query(others).bind(event).execute(&stack.db).await.unwrap();

    for arguments in [vec![], vec!["--endpoint".to_owned(), last.to_string()]] {
        let id = event.to_string();
        let show: Vec<&str> =
            ["dead", "show", &id, "--json"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        let shown = stack.cli(&show).await.json();
        let found = shown["deliveries"].as_array().unwrap();
        assert_eq!(found.len(), 1, "{arguments:?}");
        assert_eq!((&found[0]["endpoint_id"], &found[0]["status"]), (&json!(last.to_string()), &json!("dead")));
    }
}
