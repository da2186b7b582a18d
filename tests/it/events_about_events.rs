//! What happens to endpoints and deliveries is emitted for the operators' tenant, as `docs/events.md` says.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::{Receiver, Reply, Stack, eventually};

const DOCUMENT: &str = include_str!("../../docs/events.md");
const LEFT_OUT: &str = "select case when is_called then last_value else 0 end from posthaste.operations_left_out";
const TOLD: &str = "select count(*) from posthaste.outbox where tenant = 'operations'";
/// Endpoints that are there before anything happens to them.
const THIRTY: &str = "insert into posthaste.endpoints (id, tenant, url)
    select posthaste.uuid_v7(), 'acme', 'https://example.com/' from generate_series(1, 30)";
const SETTINGS: [(&str, &str); 5] = [
    ("operations.tenant", "operations"),
    ("circuit.min_failures", "3"),
    ("circuit.min_duration", "0s"),
    ("circuit.cooldown", "300ms"),
    ("retry.schedule", r#"["50ms"]"#),
];

/// A stack whose database knows the setting.
async fn told(settings: &[(&str, &str)]) -> Stack {
    let stack = Stack::with(settings).await;
    stack.cli(&["migrate"]).await.ok();
    stack
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The examples of the document, by their type.
fn examples() -> BTreeMap<String, Value> {
    let blocks = DOCUMENT.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let values = blocks.map(|block| serde_json::from_str::<Value>(block).expect("JSON in docs/events.md"));
    let examples = values.filter(|value| value["type"].as_str().is_some_and(|kind| kind.contains('.')));
    examples.map(|value| (value["type"].as_str().unwrap().to_owned(), value)).collect()
}

#[tokio::test]
async fn operators_hear_by_webhook_of_what_happens_to_endpoints_and_deliveries_of_others() {
    let (stack, receiver) = (told(&SETTINGS).await, Receiver::start());
    receiver.at("/down?token=hunter2", |_| Reply::status(500).body("why-not"));
    receiver.at("/gone", |_| Reply::status(410));
    receiver.at("/slow", |_| Reply::status(429).header("retry-after", 600));
    let arguments = ["--event-types", "endpoint.*,delivery.dead"];
    let down = stack.endpoint("acme", &receiver.url("/down?token=hunter2"), &[]).await;
    let gone = stack.endpoint("gone", &receiver.url("/gone"), &[]).await;
    let slow = stack.endpoint("slow", &receiver.url("/slow"), &[]).await;
    let operators = stack.endpoint("operations", &receiver.url("/operators"), &arguments).await;
    stack.run().await;

    for tenant in ["acme", "acme", "acme", "acme", "acme", "gone", "slow"] {
        stack.emit(tenant, "order.created", r#"{"card":"4111"}"#).await;
    }
    let heard = async |kind: &str, id: &str| {
        let is_it = |request: &crate::harness::Request| {
            let body: Value = serde_json::from_slice(&request.body).unwrap();
            request.path == "/operators" && body["type"] == kind && body["data"]["endpoint_id"] == id
        };
        receiver.wait_until(kind, |requests| requests.iter().any(is_it)).await;
    };
    heard("endpoint.circuit_opened", &down.id.to_string()).await;
    receiver.at("/down?token=hunter2", |_| Reply::ok());
    stack.emit("acme", "order.created", "{}").await;
    heard("endpoint.circuit_closed", &down.id.to_string()).await;
    heard("delivery.dead", &gone.id.to_string()).await;
    heard("endpoint.disabled", &gone.id.to_string()).await;
    heard("endpoint.paused", &slow.id.to_string()).await;

    let examples = examples();
    assert_eq!(examples.len(), 5, "{examples:?}");
    for request in receiver.requests_to("/operators") {
        let event: Value = serde_json::from_slice(&request.body).unwrap();
        let example = &examples[event["type"].as_str().unwrap()];
        assert_eq!((keys(&event), keys(&event["data"])), (keys(example), keys(&example["data"])), "{event}");
        assert_eq!(request.header("posthaste-event-type"), event["type"]);
        for secret in ["hunter2", "4111", "why-not", "127.0.0.1"] {
            assert!(!event.to_string().contains(secret), "{secret} is in {event}");
        }
    }

    // What is told of the operators' own endpoint would be told to that endpoint.
    receiver.at("/operators", |_| Reply::status(410));
    stack.change(gone.id, "update posthaste.endpoints set status = 'enabled' where id = $1").await;
    stack.change(operators.id, "update posthaste.endpoints set circuit_state = 'open' where id = $1").await;
    stack.change(operators.id, "update posthaste.endpoints set circuit_state = 'closed' where id = $1").await;
    let id = stack.emit("operations", "endpoint.tested", "{}").await;
    stack.wait_status(id, "dead").await;
    eventually("it is disabled", async || {
        let disabled = "select count(*) from posthaste.endpoints where tenant = 'operations' and status = 'disabled'";
        (stack.number(disabled).await == 1).then_some(())
    })
    .await;
    let own = "select count(*) from posthaste.events where payload -> 'data' ->> 'tenant' = 'operations'";
    assert_eq!(stack.number(own).await + stack.number(TOLD).await, 0);
}

#[tokio::test]
async fn events_about_events_are_bounded_in_rate_and_what_is_left_out_is_counted() {
    let stack = Stack::with(&SETTINGS).await;
    stack.execute(THIRTY).await;
    stack.execute("update posthaste.endpoints set status = 'disabled'").await;
    assert_eq!(
        (stack.number(TOLD).await, stack.number(LEFT_OUT).await),
        (0, 0),
        "the database does not know of it yet"
    );
    stack.execute("update posthaste.endpoints set status = 'enabled'").await;
    stack.cli(&["migrate"]).await.ok();

    stack.execute("update posthaste.endpoints set status = 'disabled'").await;

    let (told, left_out) = (stack.number(TOLD).await, stack.number(LEFT_OUT).await);
    // Ten a second, however long the statement took.
    assert!((10..30).contains(&told) && told + left_out == 30, "{told} told, {left_out} left out");
    stack.execute("update posthaste.operations_told set told_at = now() - interval '50 seconds'").await;
    stack.execute("update posthaste.endpoints set status = 'enabled'").await;
    let once = "update posthaste.endpoints set status = 'disabled'
        where id in (select endpoint_id from posthaste.operations_told limit 5)";
    stack.execute(once).await;
    assert_eq!((stack.number(TOLD).await, stack.number(LEFT_OUT).await), (told, left_out + 5), "once a minute");
    stack.execute("update posthaste.operations_told set told_at = now() - interval '61 seconds'").await;
    stack.execute("update posthaste.endpoints set status = 'enabled'").await;
    stack.execute(once).await;
    assert_eq!((stack.number(TOLD).await, stack.number(LEFT_OUT).await), (told + 5, left_out + 5));
    let relay = stack.relay().await;
    eventually("the metric says so", async || {
        let counted = relay.metric("posthaste_operations_events_left_out_total").await;
        (counted == (left_out + 5) as f64).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_event_that_cannot_be_told_undoes_nothing_and_nobody_waits_for_one_that_is_being_told() {
    let small = [("delivery.max_payload_bytes", "40")];
    let (stack, receiver) = (told(&[&SETTINGS[..], &small].concat()).await, Receiver::start());
    receiver.at("/", |_| Reply::status(410));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let id = stack.emit("acme", "order.created", "{}").await;
    assert_eq!(stack.wait_status(id, "dead").await.attempts, 1);
    eventually("both are counted", async || (stack.number(LEFT_OUT).await == 2).then_some(())).await;
    let disabled = "select count(*) from posthaste.endpoints where status = 'disabled'";
    assert_eq!((stack.number(disabled).await, stack.number(TOLD).await), (1, 0));

    stack.cli_with(&["migrate"], &[("delivery.max_payload_bytes", "4000")]).await.ok();
    stack.execute("update posthaste.endpoints set status = 'enabled'").await;
    let mut operator = stack.db.begin().await.unwrap();
    let tell = "select posthaste.tell_dead(array[$1], array[endpoint_id], array['gone'], array[1], array[410])
        from posthaste.deliveries where event_id = $1";
    let told: i32 = sqlx::query_scalar(tell).bind(id).fetch_one(&mut *operator).await.unwrap();
    assert_eq!(told, 1, "and not committed");
    let next = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(next, "dead").await;
    operator.rollback().await.unwrap();
}
