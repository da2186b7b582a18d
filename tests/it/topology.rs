//! The queues in the broker: said to be right or wrong, and retired when no schedule names them any more.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Value, json};

use crate::harness::{Done, Stack};

const PRUNE: [&str; 4] = ["topology", "prune", "--yes", "--json"];

/// What `topology check --json` says, which ends with 1 when something differs.
async fn differences(stack: &Stack) -> Vec<String> {
    let Done { code, stdout, stderr } = stack.cli(&["topology", "check", "--json"]).await;
    let value: Value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error} in {stdout:?} {stderr}"));
    let differences: Vec<String> = serde_json::from_value(value["differences"].clone()).unwrap();
    assert_eq!((code, &value["same"]), (i32::from(!differences.is_empty()), &json!(differences.is_empty())));
    differences
}

#[tokio::test]
async fn a_check_names_what_is_missing() {
    let stack = Stack::new().await;
    assert_eq!(differences(&stack).await.len(), 3 + 5, "three exchanges and five queues");
    let declared = stack.cli(&["topology", "declare"]).await.ok();
    assert_eq!(declared.stdout.trim(), "declared 3 exchanges and 5 queues");
    assert_eq!(differences(&stack).await, [""; 0]);
    let checked = stack.cli(&["topology", "check"]).await.ok();
    assert!(checked.stdout.contains("5 queues, for which RabbitMQ 3 reserves 15 file handles"), "{}", checked.stdout);
    let queue = stack.queue("delay.300");

    stack.delete_queues(&["delay.300"]).await;

    let missing = format!("queue '{queue}' is missing; declare it with `posthaste topology declare`");
    assert_eq!(differences(&stack).await, [missing]);
    stack.cli(&["topology", "declare"]).await.ok();
    assert_eq!(differences(&stack).await, [""; 0]);
}

#[tokio::test]
async fn a_check_names_the_argument_that_differs() {
    let stack = Stack::new().await;
    let mut arguments = FieldTable::default();
    arguments.insert(ShortString::from("x-queue-type"), AMQPValue::LongString("quorum".into()));
    arguments.insert(ShortString::from("x-delivery-limit"), AMQPValue::LongLongInt(7));
    stack.declare("dead", arguments).await;

    let found = differences(&stack).await;

    let said = format!("queue '{}' exists with another x-delivery-limit", stack.queue("dead"));
    assert!(found.iter().any(|difference| difference.starts_with(&said)), "{found:?}");
    let refused = stack.cli(&["topology", "declare"]).await;
    assert!(refused.code == 1 && refused.stderr.contains(&said), "{}", refused.stderr);
}

#[tokio::test]
async fn a_queue_of_an_earlier_schedule_is_retired_drained_and_then_deleted() {
    let stack = Stack::with(&[("retry.schedule", r#"["300ms", "1h", "2h"]"#)]).await;
    stack.cli(&["topology", "declare"]).await.ok();
    assert_eq!(stack.cli(&PRUNE).await.json()["queues"], json!([]), "every queue is in use");
    let delayed = stack.queue("delay");
    stack.publish_to(&delayed, "7200000", BasicProperties::default().with_delivery_mode(2), b"{}").await;
    let now = [("retry.schedule", r#"["300ms"]"#)];
    let prune = async |arguments: &[&str]| {
        let pruned = stack.cli_with(arguments, &now).await.json();
        let queues = pruned["queues"].as_array().unwrap().clone();
        let prefix = stack.queue("delay.");
        queues
            .iter()
            .map(|queue| {
                let name = queue["queue"].as_str().unwrap().strip_prefix(&prefix).unwrap().to_owned();
                (name, queue["result"]["state"].as_str().unwrap().to_owned())
            })
            .collect::<Vec<_>>()
    };
    let state = |hour: &str, two_hours: &str| {
        vec![("3600000".to_owned(), hour.to_owned()), ("7200000".to_owned(), two_hours.to_owned())]
    };
    let refused = stack.cli_with(&["topology", "prune"], &now).await;
    assert!(refused.code == 64 && refused.stderr.contains("add --yes"), "{}", refused.stderr);
    let dry = ["topology", "prune", "--dry-run", "--json"];
    assert_eq!(prune(&dry).await, state("retired", "retired"));
    assert_eq!(prune(&PRUNE).await, state("retired", "retired"), "the dry run has retired none");
    assert_eq!(prune(&PRUNE).await, state("draining", "draining"));

    // Days later; the message of one of them never expired, whatever the reason.
    stack
        .execute(
            "update posthaste.delay_queues set retired_at = now() - interval '3 days' where retired_at is not null",
        )
        .await;

    assert_eq!(prune(&dry).await, state("deleted", "draining"));
    assert_eq!(prune(&PRUNE).await, state("deleted", "draining"), "none with a message in it");
    assert_eq!(prune(&PRUNE).await, [("7200000".to_owned(), "draining".to_owned())]);
    assert_eq!((stack.depth("delay.300").await, stack.depth("delay.7200000").await), (0, 1));
    let missing = format!("queue '{}' is missing", stack.queue("delay.3600000"));
    assert!(differences(&stack).await[0].starts_with(&missing), "it is gone");
    // The old schedule comes back: its queues are in use again.
    stack.cli(&["topology", "declare"]).await.ok();
    assert_eq!(stack.cli(&PRUNE).await.json()["queues"], json!([]));
    assert_eq!(stack.number("select count(*) from posthaste.delay_queues where retired_at is not null").await, 0);
    assert_eq!(differences(&stack).await, [""; 0]);
    stack.publish_to(&delayed, "7200000", BasicProperties::default(), b"{}").await;
    assert_eq!(stack.depth("delay.7200000").await, 2, "it is bound again");
}
