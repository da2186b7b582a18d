//! Retry budgets that an operator sets while the service runs.

use serde_json::{Value, json};

use crate::harness::{Receiver, Reply, Stack, eventually};

async fn listed(stack: &Stack, policy: &str) -> Value {
    let all = stack.cli(&["policy", "list", "--json"]).await.json();
    all.as_array().unwrap().iter().find(|known| known["policy"] == policy).cloned().unwrap()
}

#[tokio::test]
async fn a_budget_is_in_force_in_running_workers_and_can_be_lifted() {
    let settings = [
        ("retry.schedule", r#"["50ms", "50ms", "50ms", "50ms"]"#),
        ("retry.policies.gold.budget", "1"),
        ("circuit.enabled", "false"),
    ];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/", |_| Reply::status(500));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.endpoint("rich", &receiver.url("/"), &["--retry-policy", "gold"]).await;
    stack.run().await;
    let attempts = async |tenant: &str| {
        let event = stack.emit(tenant, "order.created", "{}").await;
        stack.wait_status(event, "dead").await.attempts
    };
    assert_eq!((attempts("acme").await, attempts("rich").await), (5, 2), "as configured");

    let set = stack.cli(&["policy", "set", "default", "--budget", "2"]).await.ok().stdout;
    assert!(set.contains("2 (set in the database)") && set.contains("within a second"), "{set}");
    stack.cli(&["policy", "set", "gold", "--budget", "0", "--json"]).await.json();

    eventually("the worker has heard of it", async || (attempts("acme").await == 3).then_some(())).await;
    eventually("and of the other policy's", async || (attempts("rich").await == 5).then_some(())).await;
    let known = listed(&stack, "gold").await;
    assert_eq!(
        (&known["budget"], &known["configured_budget"], &known["retries"]),
        (&Value::Null, &json!(1), &json!(4))
    );
    assert!(known["budget_set_at"].is_string());

    stack.cli(&["policy", "set", "gold", "--budget", "none"]).await.ok();
    eventually("the configuration counts again", async || (attempts("rich").await == 2).then_some(())).await;
    assert_eq!(listed(&stack, "gold").await["budget_set_at"], Value::Null);
    let table = stack.cli(&["policy", "list"]).await.ok().stdout;
    assert!(table.contains("WORST CASE") && table.contains("50ms, 50ms"), "{table}");
    let refused = stack.cli(&["policy", "set", "silver", "--budget", "1"]).await;
    assert!(refused.code == 64 && refused.stderr.contains("use one of default, gold"), "{}", refused.stderr);
}

#[tokio::test]
async fn a_requeue_grants_a_budget_anew() {
    let settings =
        [("retry.schedule", r#"["50ms", "50ms", "50ms"]"#), ("retry.budget", "1"), ("circuit.enabled", "false")];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/", |_| Reply::status(500));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let event = stack.emit("acme", "order.created", "{}").await;
    assert_eq!(stack.wait_status(event, "dead").await.attempts, 2);

    stack.cli(&["requeue", "--event", &event.to_string(), "--yes"]).await.ok();

    eventually("it has died again", async || {
        let delivery = stack.delivery(event).await;
        (delivery.status == "dead" && delivery.attempts == 4 && delivery.base_attempts == 2).then_some(())
    })
    .await;
}
