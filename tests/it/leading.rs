//! The session that makes a relay itself: lost, shared, or beside trouble of others.

use serde_json::Value;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use crate::harness::{Pooler, Process, Proxy, Receiver, Stack, eventually};

const LEADING: &str = "leading";
/// What the session with the locks is called in `pg_stat_activity`.
const SESSION: &str = "posthaste relay session";

/// How often the process has begun to relay, under one identity after another.
fn lives(relay: &Process) -> usize {
    relay.log().lines().filter(|line| line.contains(r#""message":"relaying""#)).count()
}

async fn failed_duty(relay: &Process, duty: &str) {
    let failed = |line: &Value| {
        (line["message"] == "a duty of the relay failed; trying again" && line["duty"] == duty).then_some(())
    };
    relay.logged(duty, failed).await;
}

#[tokio::test]
async fn another_relay_leads_when_the_network_of_the_leader_swallows_everything() {
    let stack = Stack::new().await;
    let proxy = Proxy::to(&stack.binary.database_url);
    let cut_off = stack.start("relay", &[("database.url", &proxy.url(&stack.binary.database_url))]).await;
    cut_off.logged_message(LEADING).await;
    let other = stack.relay().await;

    proxy.stall();

    // The proxy keeps the server's side open and its system answers for it, as a router would for a host that is gone.
    other.logged_message(LEADING).await;
}

#[tokio::test]
async fn a_relay_whose_session_a_pooler_lends_to_others_does_not_start() {
    let stack = Stack::new().await;
    let pooler = Pooler::of(SESSION, &stack.binary.database_url);
    pooler.share();

    let relay = stack.spawn("relay", &[("database.url", &pooler.url(&stack.binary.database_url))]);

    assert_eq!(relay.exit_code().await, Some(1));
    assert!(relay.log().contains("a pooler in session mode"), "{}", relay.log());
}

#[tokio::test]
async fn a_process_whose_settings_a_pooler_drops_does_not_start() {
    let stack = Stack::new().await;
    let pooler = Pooler::of(SESSION, &stack.binary.database_url);
    pooler.drop_settings();
    let url = pooler.url(&stack.binary.database_url);

    for command in ["relay", "worker", "run"] {
        let process = stack.spawn(command, &[("database.url", &url)]);

        assert_eq!(process.exit_code().await, Some(1));
        assert!(process.log().contains("a pooler drops the settings"), "{}", process.log());
    }

    // The role may have them instead.
    let give = "do $$ begin
        execute format('alter database %I set enable_seqscan = off', current_database());
    end $$";
    stack.execute(give).await;
    stack.start("worker", &[("database.url", &url)]).await;
}

#[tokio::test]
async fn a_relay_ends_with_the_reason_when_its_session_is_lent_to_others() {
    let stack = Stack::new().await;
    let pooler = Pooler::of(SESSION, &stack.binary.database_url);
    let relay = stack.start("relay", &[("database.url", &pooler.url(&stack.binary.database_url))]).await;
    relay.logged_message(LEADING).await;

    pooler.share();
    let mut other = url::Url::parse(&pooler.url(&stack.binary.database_url)).unwrap();
    other.query_pairs_mut().append_pair("application_name", SESSION);
    let _other = PgConnection::connect(other.as_str()).await.unwrap();

    assert_eq!(relay.exit_code().await, Some(1));
    assert!(relay.log().contains("a pooler in session mode"), "{}", relay.log());
}

#[tokio::test]
async fn a_claim_that_was_committed_without_an_answer_is_published_by_the_same_relay() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.worker().await;
    let proxy = Proxy::of("posthaste relay claim", &stack.binary.database_url);
    let relay = stack.start("relay", &[("database.url", &proxy.url(&stack.binary.database_url))]).await;
    // The claim waits for this transaction to end, which has an event of the same id.
    let mut wall = stack.db.begin().await.unwrap();
    let occupy = "insert into posthaste.events (id, tenant, event_type, payload, created_at)
        values (posthaste.uuid_v7(), 'acme', 'order.created', '{}', now()) returning id";
    let id: Uuid = sqlx::query_scalar(occupy).fetch_one(&mut *wall).await.unwrap();
    let emit =
        "insert into posthaste.outbox (id, tenant, event_type, payload) values ($1, 'acme', 'order.created', '{}')";
    sqlx::query(emit).bind(id).execute(&stack.db).await.unwrap();
    let waiting = "select count(*) from pg_stat_activity
        where datname = current_database() and application_name = 'posthaste relay claim' and wait_event = 'transactionid'";
    eventually("the claim waits", async || (stack.number(waiting).await > 0).then_some(())).await;

    proxy.stall();
    wall.rollback().await.unwrap();
    let committed = "select count(*) from posthaste.relay_batches";
    eventually("the claim is committed", async || (stack.number(committed).await > 0).then_some(())).await;
    proxy.cut();
    relay.logged_message("a claim failed; trying again").await;
    proxy.forward();

    receiver.wait_for(1).await;
    assert_eq!(stack.wait_status(id, "delivered").await.attempts, 1);
    relay.logged_message("adopted a batch that nobody else would publish").await;
    assert_eq!(lives(&relay), 1, "its session was never lost");
}

#[tokio::test]
async fn a_batch_that_cannot_be_adopted_stops_neither_claiming_nor_the_other_duties() {
    let stack = Stack::with(&[("database.statement_timeout", "300ms")]).await;
    let receiver = Receiver::start();
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.worker().await;
    // A relay that is gone has left an event of yesterday, and somebody holds that day.
    let yesterday: Uuid = sqlx::query_scalar("select posthaste.uuid_v7_floor(now() - interval '1 day')")
        .fetch_one(&stack.db)
        .await
        .unwrap();
    let leave = "insert into posthaste.relay_batches (relay, event_ids, claimed_at) values (1, array[$1], now() - interval '1 minute')";
    sqlx::query(leave).bind(yesterday).execute(&stack.db).await.unwrap();
    let mut wall = stack.db.begin().await.unwrap();
    let name: String = sqlx::query_scalar(
        "select to_char(now() at time zone 'utc' - interval '1 day', '\"posthaste.events_\"YYYYMMDD')",
    )
    .fetch_one(&mut *wall)
    .await
    .unwrap();
    let lock = format!("lock table {name} in access exclusive mode");
    sqlx::query(sqlx::AssertSqlSafe(lock)).execute(&mut *wall).await.unwrap();

    let relay = stack.relay().await;

    failed_duty(&relay, "adoption").await;
    stack.emit_many("acme", "order.created", 20).await;
    receiver.wait_for(20).await;
    let done = r#"posthaste_leader_duty_success_timestamp_seconds{duty="markers"}"#;
    eventually("markers are published", async || relay.metrics().await.get(done).copied()).await;
    wall.rollback().await.unwrap();
    let left = "select count(*) from posthaste.relay_batches where relay = 1";
    eventually("it is adopted in the end", async || (stack.number(left).await == 0).then_some(())).await;
    assert_eq!(lives(&relay), 1, "it was one relay all the time");
}

#[tokio::test]
async fn a_relay_that_has_lost_one_of_its_tasks_ends_instead_of_doing_half_its_work() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let relay = stack.relay().await;

    // A number of attempts that is never reached: the next one overflows, and the release panics.
    stack
        .change(
            endpoint.id,
            "with e as (insert into posthaste.events (id, tenant, event_type, payload, created_at)
                 values (posthaste.uuid_v7(), 'acme', 'order.created', '{}', now()) returning id)
             insert into posthaste.deliveries (event_id, endpoint_id, status, attempts, base_attempts, max_attempts)
             select id, $1, 'held', 2147483647, 2147483646, 3 from e",
        )
        .await;

    assert_eq!(relay.exit_code().await, Some(1));
    assert!(relay.log().contains("relay: the task 'release' panicked"), "{}", relay.log());
}
