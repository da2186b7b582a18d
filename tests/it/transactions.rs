//! What producers commit is delivered, what they roll back is not, and nothing is skipped.

use std::time::Duration;

use serde_json::json;
use uuid::Uuid;

use crate::harness::{Receiver, Stack, eventually};

const EMIT: &str = "select posthaste.emit('acme', 'order.created', json_build_object('from', $1::text))";

#[tokio::test]
async fn a_rolled_back_transaction_delivers_nothing_and_a_committed_one_delivers() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let mut lost = stack.db.begin().await.unwrap();
    let rolled_back: Uuid = sqlx::query_scalar(EMIT).bind("rolled back").fetch_one(&mut *lost).await.unwrap();
    lost.rollback().await.unwrap();
    let mut kept = stack.db.begin().await.unwrap();
    let committed: Uuid = sqlx::query_scalar(EMIT).bind("committed").fetch_one(&mut *kept).await.unwrap();
    kept.commit().await.unwrap();

    stack.wait_status(committed, "delivered").await;

    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].id(), committed.to_string());
    assert_eq!(requests[0].body, br#"{"from" : "committed"}"#);
    assert_eq!(requests[0].header("posthaste-event-type"), "order.created");
    assert_eq!(requests[0].header("content-type"), "application/json");
    assert!(requests[0].header("user-agent").starts_with("posthaste/"));
    let show = stack.cli(&["event", "show", &rolled_back.to_string()]).await;
    assert_eq!(show.code, 1, "{}", show.stdout);
}

#[tokio::test]
async fn a_transaction_that_commits_late_is_not_skipped() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let mut late = stack.db.begin().await.unwrap();
    let late_id: Uuid = sqlx::query_scalar(EMIT).bind("late").fetch_one(&mut *late).await.unwrap();
    // Enough batches for the relay to be far beyond the late id, and time enough for it to fall asleep.
    let early = stack.emit_many("acme", "order.created", 500).await;
    assert!(early.iter().all(|id| *id > late_id));
    receiver.wait_for(500).await;
    stack.wait_asleep().await;

    late.commit().await.unwrap();

    stack.wait_status(late_id, "delivered").await;
    assert_eq!(receiver.count(), 501);
}

#[tokio::test]
async fn an_event_that_wakes_the_relay_is_delivered_at_once() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let mut took = Duration::ZERO;
    for _ in 0..6 {
        stack.wait_asleep().await;
        let (before, began) = (receiver.count(), std::time::Instant::now());
        stack.emit("acme", "order.created", "{}").await;
        let requests = receiver.wait_for(before + 1).await;
        took += requests.last().unwrap().at.saturating_duration_since(began);
    }
    // A sleeping relay looks by itself every second, so it would take half a second for each; notified it needs milliseconds.
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[tokio::test]
async fn a_plain_insert_is_as_good_as_emit() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let insert = "insert into posthaste.outbox (tenant, event_type, payload, idempotency_key, traceparent)
        values ('acme', 'order.created', '{\"by\": \"insert\"}', 'key-1', $1) returning id";
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    let id: Uuid = sqlx::query_scalar(insert).bind(trace).fetch_one(&stack.db).await.unwrap();

    stack.wait_status(id, "delivered").await;
    let request = &receiver.requests()[0];
    assert_eq!((request.id(), request.header("traceparent")), (id.to_string().as_str(), trace));
    assert_eq!(request.body, br#"{"by": "insert"}"#);
    let again = sqlx::query(insert).bind(trace).execute(&stack.db).await.unwrap_err();
    assert_eq!(again.as_database_error().unwrap().code().unwrap(), "23505");
    let first: Uuid = sqlx::query_scalar("select posthaste.emit('acme', 'order.created', '{}', 'key-1')")
        .fetch_one(&stack.db)
        .await
        .unwrap();
    assert_eq!(first, id, "emit returns the first event's id");
    stack.wait_relayed().await;
    assert_eq!(stack.number("select count(*) from posthaste.events").await, 1);
}

#[tokio::test]
async fn of_two_transactions_with_one_key_one_makes_the_event_whichever_commits() {
    const KEYED: &str = "select posthaste.emit('acme', 'order.created', '{}', 'key-1')";
    let stack = Stack::new().await;
    let mut first = stack.db.begin().await.unwrap();
    let given_up: Uuid = sqlx::query_scalar(KEYED).fetch_one(&mut *first).await.unwrap();
    let db = stack.db.clone();
    let second = tokio::spawn(async move { sqlx::query_scalar::<_, Uuid>(KEYED).fetch_one(&db).await.unwrap() });
    let waiting =
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("the second waits", async || (stack.number(waiting).await == 1).then_some(())).await;

    first.rollback().await.unwrap();

    let made = second.await.unwrap();
    assert_ne!(made, given_up);
    let again = async || sqlx::query_scalar::<_, Uuid>(KEYED).fetch_one(&stack.db).await.unwrap();
    assert_eq!((again().await, stack.number("select count(*) from posthaste.outbox").await), (made, 1));
    let other_tenant = "select posthaste.emit('other', 'order.created', '{}', 'key-1')";
    stack.execute(other_tenant).await;
    assert_eq!(stack.number("select count(*) from posthaste.outbox").await, 2, "keys are a tenant's own");
    stack.execute("update posthaste.idempotency_keys set expires_at = now() where tenant = 'acme'").await;
    let renewed = again().await;
    assert_ne!(renewed, made, "an expired key can be used again");
    assert_eq!(again().await, renewed);
}

#[tokio::test]
async fn a_producer_may_emit_and_nothing_else() {
    let stack = Stack::new().await;
    let mut session = stack.db.acquire().await.unwrap();
    sqlx::query("set role posthaste_producer").execute(&mut *session).await.unwrap();
    for allowed in [
        "select posthaste.emit('acme', 'a.b', '{}', 'k', 3, null)",
        "insert into posthaste.outbox (tenant, event_type, payload, max_attempts) values ('acme', 'a.b', '{}', 2)",
    ] {
        sqlx::query(allowed).execute(&mut *session).await.unwrap();
    }
    for refused in [
        "select * from posthaste.outbox",
        "delete from posthaste.outbox",
        "insert into posthaste.outbox (tenant, event_type, payload, created_at) values ('acme', 'a.b', '{}', now())",
        "select * from posthaste.events",
        "select * from posthaste.endpoints",
        "select * from posthaste.endpoint_secrets",
        "insert into posthaste.endpoints (tenant, url) values ('acme', 'https://example.com')",
        "select posthaste.register_key('acme', 'k', posthaste.uuid_v7())",
        "select posthaste.create_partitions(current_date, current_date)",
        "select posthaste.grant_producer('posthaste_producer')",
        "select setval('posthaste.wake', 1)",
        "create table posthaste.mine (id int)",
    ] {
        let error = sqlx::query(refused).execute(&mut *session).await.expect_err(refused);
        assert_eq!(error.as_database_error().unwrap().code().unwrap(), "42501", "{refused}");
    }
    sqlx::query("reset role").execute(&mut *session).await.unwrap();
    drop(session);
    assert_eq!(stack.number("select count(*) from posthaste.outbox").await, 2);
}

#[tokio::test]
async fn an_event_that_no_endpoint_matches_is_recorded() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &["--event-types", "invoice.*"]).await;
    stack.relay().await;

    let id = stack.emit("acme", "order.created", "{}").await;

    stack.wait_relayed().await;
    let show = ["event", "show", &id.to_string()];
    let shown = stack.cli(&[&show[..], &["--json"]].concat()).await.json();
    assert_eq!(shown["event"]["matched"], json!(0));
    assert!(shown["event"]["published_at"].is_string(), "{shown}");
    assert_eq!((&shown["deliveries"], &shown["attempts"]), (&json!([]), &json!([])));
    assert!(stack.cli(&show).await.ok().stdout.contains("no endpoint matched"));
}

#[tokio::test]
async fn endpoints_get_the_types_that_their_filters_name() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    for (path, types) in [
        ("/exact", "order.created"),
        ("/prefix", "order.*"),
        ("/two", "user_a.b,invoice.paid"),
        ("/under", "a_b.*"),
        ("/star", "*"),
    ] {
        stack.endpoint("acme", &receiver.url(path), &["--event-types", types]).await;
    }
    stack.endpoint("acme", &receiver.url("/all"), &[]).await;
    stack.endpoint("other", &receiver.url("/other"), &[]).await;
    stack.run().await;
    let types =
        ["order.created", "order.created.eu", "order", "orders.created", "userXa.b", "user_a.b", "a_b.c", "aXb.c"];
    for event_type in types {
        stack.emit("acme", event_type, "{}").await;
    }

    stack.wait_settled().await;

    let got = |path: &str| {
        let mut types: Vec<String> =
            receiver.requests_to(path).iter().map(|r| r.header("posthaste-event-type").to_owned()).collect();
        types.sort();
        types
    };
    assert_eq!(got("/exact"), ["order.created"]);
    assert_eq!(got("/prefix"), ["order.created", "order.created.eu"]);
    assert_eq!(got("/two"), ["user_a.b"]);
    assert_eq!(got("/under"), ["a_b.c"]);
    assert_eq!((got("/star").len(), got("/all").len(), got("/other").len()), (types.len(), types.len(), 0));
}
