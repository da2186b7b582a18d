//! Metrics by endpoint: of the few that have the most, by the relay that leads, and only where they are asked for.

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use crate::harness::{Process, Receiver, Stack, eventually};

const HELD: &str = "posthaste_endpoint_held_deliveries";
const DUE: &str = "posthaste_endpoint_held_oldest_due_seconds";
const DUTY: &str = "posthaste_leader_duty_success_timestamp_seconds{duty=\"top_endpoints\"}";

/// The endpoints that have a series of this metric, with its value.
async fn of(process: &Process, metric: &str) -> BTreeMap<Uuid, f64> {
    let label = format!("{metric}{{endpoint=\"");
    let id = |series: &str| series.strip_prefix(&label)?.strip_suffix("\"}")?.parse().ok();
    process.metrics().await.iter().filter_map(|(series, value)| Some((id(series)?, *value))).collect()
}

async fn shown(relay: &Process, expected: [(Uuid, f64); 2]) {
    let expected: BTreeMap<Uuid, f64> = expected.into();
    let shown = async || (of(relay, HELD).await == expected).then_some(());
    eventually("its endpoints with the most", shown).await;
}

async fn leads(relay: &Process) {
    let leads = async || (relay.metric("posthaste_relay_leads").await == 1.0).then_some(());
    eventually("it leads", leads).await;
}

#[tokio::test]
async fn the_first_few_have_series_and_lose_them_when_they_are_no_longer_among_the_first() {
    let (stack, receiver) = (Stack::with(&[("telemetry.top_endpoints", "2")]).await, Receiver::start());
    let mut disabled = Vec::new();
    for (tenant, events) in [("one", 1), ("two", 2), ("three", 3)] {
        let endpoint = stack.endpoint(tenant, &receiver.url("/"), &[]).await.id;
        stack.cli(&["endpoint", "disable", &endpoint.to_string()]).await.ok();
        stack.emit_many(tenant, "order.created", events).await;
        disabled.push(endpoint);
    }
    let [one, two, three] = disabled[..] else { unreachable!() };
    let leader = stack.relay().await;
    leads(&leader).await;
    let other = stack.relay().await;
    stack.worker().await;

    shown(&leader, [(three, 3.0), (two, 2.0)]).await;
    let due = of(&leader, DUE).await;
    assert!(due.keys().eq([&two, &three].into_iter().collect::<BTreeSet<_>>()), "{due:?}");
    assert!(due.values().all(|seconds| (0.1..60.0).contains(seconds)), "{due:?}");
    assert_eq!((of(&other, HELD).await, of(&other, DUE).await), Default::default(), "they are the leader's alone");

    stack.cli(&["endpoint", "enable", &three.to_string()]).await.ok();
    shown(&leader, [(two, 2.0), (one, 1.0)]).await;
    assert!(!of(&leader, DUE).await.contains_key(&three));

    leader.kill();
    leads(&other).await;
    shown(&other, [(two, 2.0), (one, 1.0)]).await;
}

#[tokio::test]
async fn nobody_looks_where_nobody_asked() {
    let stack = Stack::new().await;
    let relay = stack.relay().await;
    leads(&relay).await;
    let waiting = DUTY.replace("top_endpoints", "waiting");
    let metrics = eventually("the other duties are done", async || {
        let metrics = relay.metrics().await;
        metrics.contains_key(&waiting).then_some(metrics)
    })
    .await;
    assert!(!metrics.contains_key(DUTY) && !metrics.keys().any(|series| series.contains("endpoint=")), "{metrics:?}");
}
