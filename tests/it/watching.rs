//! `posthaste stats`: what is going on just now, and how the objective stands.

use serde_json::{Value, json};

use crate::harness::{Receiver, Reply, Stack, eventually};

#[tokio::test]
async fn watching_prints_one_value_a_line_with_rates_depths_and_who_fails() {
    let settings = [("retry.schedule", r#"["1h"]"#), ("circuit.enabled", "false")];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/broken", |_| Reply::status(500));
    let failing = stack.endpoint("acme", &receiver.url("/broken"), &[]).await.id.to_string();
    stack.run().await;
    stack.emit_many("acme", "order.created", 5).await;
    stack.wait_statuses("retrying", 5).await;
    let reported = "select count(*) from posthaste.endpoint_activity where failures >= 5";
    eventually("the worker has reported it", async || (stack.number(reported).await == 1).then_some(())).await;

    let done = stack.cli(&["stats", "--watch", "--interval", "1s", "--samples", "2", "--json"]).await.ok();

    let values: Vec<Value> = done.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(values.len(), 2);
    let last = &values[1];
    assert_eq!(
        (&last["retrying"], &last["held"], &last["outbox_pending"]),
        (&json!(5), &json!(0), &json!(0)),
        "{last}"
    );
    assert_eq!(last["waiting_by_tier_ms"], json!({"3600000": 5}), "{last}");
    assert_eq!((&last["queue_depth"]["dead"], &last["failed_share"]), (&json!(0), &json!(1.0)), "{last}");
    assert_eq!((&last["failing"][0]["endpoint_id"], &last["failing"][0]["failures"]), (&json!(failing), &json!(5)));
    assert!(last["per_second"]["attempts"].as_f64().is_some(), "{last}");

    let text = stack.cli(&["stats", "--watch", "--interval", "1s", "--samples", "1"]).await.ok().stdout;
    for part in
        ["per second  emitted ", "waiting     1h 5", "unfinished  retrying 5  held 0", &failing, "100.0 % failed"]
    {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
    let refused = stack.cli(&["stats", "--samples", "1"]).await;
    assert!(refused.code == 64 && refused.stderr.contains("--watch"), "{}", refused.stderr);
}

#[tokio::test]
async fn watching_ends_well_when_it_is_interrupted() {
    let stack = Stack::new().await;
    let watching = stack.spawn_command(&["stats", "--watch", "--interval", "1s"], &[]);
    eventually("it has a session", async || {
        let sessions = "select count(*) from pg_stat_activity where application_name = 'posthaste' and datname = current_database()";
        (stack.number(sessions).await > 0).then_some(())
    })
    .await;
    watching.terminate();
    assert_eq!(watching.exit_code().await, Some(0));
}

/// First attempts of one day, `$1` ms after the events, and made by a replay where `$2` says so.
async fn first_attempts(stack: &Stack, endpoint: uuid::Uuid, count: i32, late_ms: i32, replayed: bool) {
    let made = "with e as (
           insert into posthaste.events (id, tenant, event_type, payload, created_at, published_at)
           select posthaste.uuid_v7(), 'acme', 'order.created', '{}', now(), now() from generate_series(1, $1) returning id),
         d as (
           insert into posthaste.deliveries (event_id, endpoint_id, status, attempts, max_attempts, created_at)
           select id, $2, 'delivered', 1, 3, now() + case when $4 then interval '1 minute' else interval '0' end from e)
         insert into posthaste.attempts (event_id, endpoint_id, attempt, outcome, duration_ms, started_at)
         select id, $2, 1, 'delivered', 5, clock_timestamp() + $3 * interval '1 millisecond' from e";
    sqlx::query(made).bind(count).bind(endpoint).bind(late_ms).bind(replayed).execute(&stack.db).await.unwrap();
}

#[tokio::test]
async fn the_objective_counts_first_attempts_of_healthy_endpoints_by_the_month() {
    let stack = Stack::new().await;
    let of = async || stack.cli(&["stats", "--json"]).await.json()["slo"].clone();
    assert_eq!((&of().await["first_attempts"], &of().await["share"]), (&json!(0), &Value::Null));
    let healthy = stack.endpoint("acme", "https://1.1.1.1/", &[]).await.id;
    let limited = stack.endpoint("acme", "https://1.1.1.1/", &["--rate-limit", "5"]).await.id;
    first_attempts(&stack, healthy, 196, 0, false).await;
    first_attempts(&stack, healthy, 4, 2_000, false).await;
    first_attempts(&stack, healthy, 7, 70_000, true).await;
    first_attempts(&stack, limited, 50, 9_000, false).await;
    // A retry, and an attempt that failed: of an endpoint that was not healthy.
    stack.execute("insert into posthaste.attempts select event_id, endpoint_id, 2, 'delivered', null, null, 1, now(), null, null, null, null, null from posthaste.attempts").await;
    stack.dead(healthy, ("acme", "order.created"), "exhausted", 1).await;

    let slo = of().await;

    assert_eq!(
        (&slo["first_attempts"], &slo["within_a_second"], &slo["share"]),
        (&json!(200), &json!(196), &json!(0.98)),
        "{slo}"
    );
    assert_eq!(slo["days"], slo["days_read"]);
    let text = stack.cli(&["stats"]).await.ok().stdout;
    assert!(text.contains("98.000 % of 200 first attempts at healthy endpoints within a second"), "{text}");
}
