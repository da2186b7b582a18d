//! What the leading relay removes, and what a process says of itself.

use std::process::Stdio;
use std::time::Instant;

use crate::harness::{Receiver, Stack, eventually};
use crate::kit::binary;
use crate::kit::process::Process;
use crate::kit::servers::daemon::free_port;

const KEYS: &str = "select count(*) from posthaste.idempotency_keys";

#[tokio::test]
async fn expired_idempotency_keys_are_removed_as_they_expire() {
    const MANY: &str = "insert into posthaste.idempotency_keys (tenant, key, event_id, expires_at)
        select 'acme', 'key-' || n, posthaste.uuid_v7(), now() - interval '1 minute' from generate_series(1, 20000) n";
    let stack = Stack::new().await;
    stack.execute(MANY).await;
    let began = Instant::now();
    stack.relay().await;
    let none_left = async || (stack.number(KEYS).await == 0).then_some(());

    eventually("all are removed", none_left).await;

    println!("20 000 keys were removed in {:?}", began.elapsed());
    stack.execute(MANY).await;
    stack
        .execute("update posthaste.idempotency_keys set expires_at = now() + interval '1 day' where key = 'key-7'")
        .await;
    eventually("the same relay removes more", async || (stack.number(KEYS).await == 1).then_some(())).await;
}

#[tokio::test]
async fn what_an_operator_must_see_is_in_the_metrics() {
    let stack = Stack::new().await;
    // A batch of a relay that lives elsewhere, which nobody may adopt.
    let mut elsewhere = stack.db.acquire().await.unwrap();
    sqlx::query("select pg_advisory_lock(1885863937, 5)").execute(&mut *elsewhere).await.unwrap();
    stack
        .execute("insert into posthaste.relay_batches (relay, event_ids, claimed_at) values (5, '{}', now() - interval '1 hour')")
        .await;
    stack
        .execute(
            "insert into posthaste.set_aside (id, tenant, event_type, payload, created_at, error)
            values (posthaste.uuid_v7(), 'acme', 'a.b', '{}', now(), 'for a test')",
        )
        .await;
    let relay = stack.relay().await;

    stack.emit("nobody", "order.created", "{}").await;

    let shown = async |name: &'static str, right: fn(f64) -> bool| {
        eventually(name, async || relay.metrics().await.get(name).copied().filter(|value| right(*value))).await
    };
    shown("posthaste_events_unmatched_total", |events| events == 1.0).await;
    shown("posthaste_events_set_aside", |events| events == 1.0).await;
    shown("posthaste_unconfirmed_oldest_age_seconds", |age| (3600.0..3700.0).contains(&age)).await;
    shown("posthaste_partitions_ahead", |days| days == 7.0).await;
    shown("posthaste_relay_leads", |leads| leads == 1.0).await;
    shown("posthaste_tasks", |tasks| tasks > 1.0).await;
    let other = stack.relay().await;
    eventually("the other does not lead", async || {
        (other.metrics().await.get("posthaste_relay_leads") == Some(&0.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_process_whose_log_nobody_reads_goes_on_and_stops_in_order() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    let address = format!("127.0.0.1:{}", free_port());
    // The libraries are much louder than we are.
    let settings =
        [("telemetry.log_level", "trace,hyper=trace,hyper_util=trace"), ("telemetry.listen", address.as_str())];
    let process = Process::start(stack.command(&["run"], &settings), Stdio::piped());

    // Much more is logged than a pipe holds, and than waits for it.
    eventually("lines were dropped, and counted", async || {
        stack.emit_many("acme", "order.created", 500).await;
        stack.wait_settled().await;
        let (_, metrics) = binary::get(&address, "/metrics").await.ok()?;
        (binary::sum(&metrics, "posthaste_log_lines_dropped_total") > 0.0).then_some(())
    })
    .await;
    assert!(receiver.count() >= 500);

    process.signal(libc::SIGTERM);
    let status = eventually("it ends", async || process.ended()).await;
    assert_eq!(status.code(), Some(0));
}
