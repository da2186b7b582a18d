//! `posthaste doctor`: what is well, what is not, and what to do about it.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::{Done, OwnServers, Receiver, Stack, eventually, nowhere};

/// Levels by the name of the check, and everything that was said.
fn checks(done: &Done) -> (BTreeMap<String, String>, Value) {
    let value: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error}: {done:?}"));
    let text = |check: &Value, name: &str| check[name].as_str().unwrap_or_default().to_owned();
    let levels = value["checks"].as_array().unwrap().iter().map(|check| (text(check, "name"), text(check, "level")));
    (levels.collect(), value)
}

#[tokio::test]
async fn a_system_that_works_passes_and_says_what_it_cannot_know() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let markers = "select count(distinct queue) from posthaste.markers";
    eventually("markers have come through both queues", async || (stack.number(markers).await == 2).then_some(()))
        .await;

    let done = stack.cli(&["doctor", "--json"]).await.ok();

    let (levels, said) = checks(&done);
    assert_eq!(said["ok"], true, "{said}");
    for name in [
        "database.connection",
        "database.version",
        "database.clock",
        "database.schema",
        "database.partitions",
        "database.encryption_key",
        "database.retention",
        "database.user",
        "flow.outbox",
        "flow.markers",
        "flow.set_aside",
        "flow.unconfirmed",
        "flow.dead_letters",
        "broker.topology",
        "broker.alarm",
        "host.dns",
    ] {
        assert!(["ok", "warn"].contains(&levels[name].as_str()), "{name}: {said}");
    }
    assert_eq!((levels["broker.file_handles"].as_str(), levels["broker.topology"].as_str()), ("unknown", "ok"));
    assert_ne!(levels["broker.version"], "unknown", "{said}");
    let text = stack.cli(&["doctor"]).await.ok().stdout;
    assert!(
        text.contains("ok       broker.topology               all 5 queues and their exchanges are as configured"),
        "{text}"
    );
    assert_eq!(text.lines().count(), levels.len(), "one line for each check");
}

#[tokio::test]
async fn what_is_wrong_fails_with_the_fix() {
    let stack = Stack::new().await;
    stack.cli(&["topology", "declare"]).await.ok();
    stack.endpoint("acme", "https://1.1.1.1/", &[]).await;
    stack.delete_queues(&["delay.300"]).await;
    let other_key = [("security.encryption_key", "//////////////////////////////////////////8=")];

    let done = stack.cli_with(&["doctor", "--json"], &other_key).await;

    let (levels, said) = checks(&done);
    assert_eq!((done.code, &said["ok"]), (1, &Value::Bool(false)));
    assert_eq!(levels["broker.topology"], "fail", "{said}");
    assert_eq!(levels["database.encryption_key"], "fail", "{said}");
    assert_eq!(levels["flow.markers"], "warn", "nobody runs: {said}");
    let text = stack.cli_with(&["doctor"], &other_key).await;
    assert!(text.stdout.contains("-> `posthaste topology check` lists them"), "{}", text.stdout);
    assert!(text.stderr.contains("2 of ") && text.stderr.contains("checks failed"), "{}", text.stderr);
}

#[tokio::test]
async fn without_servers_it_says_so_and_what_the_schedules_need() {
    let done = nowhere(&["doctor", "--json"], &[("database.connect_timeout", "300ms")]).await;
    let (levels, said) = checks(&done);
    assert_eq!(
        (done.code, levels["database.connection"].as_str(), levels["broker.connection"].as_str()),
        (1, "fail", "fail")
    );
    assert!(said.to_string().contains("67 queues, for which RabbitMQ 3 reserves"), "{said}");
}

#[tokio::test]
async fn a_schema_that_is_behind_fails_and_nothing_more_is_asked() {
    let stack = Stack::new().await;
    stack.execute("delete from posthaste.schema_migrations where version = (select max(version) from posthaste.schema_migrations)").await;
    let done = stack.cli(&["doctor", "--json"]).await;
    let (levels, said) = checks(&done);
    assert_eq!((done.code, levels["database.schema"].as_str()), (1, "fail"), "{said}");
    assert!(
        said.to_string().contains("run `posthaste migrate`") && !levels.contains_key("database.partitions"),
        "{said}"
    );
}

#[tokio::test]
async fn an_alarm_of_the_broker_is_found() {
    let test = "an_alarm_of_the_broker_is_found";
    let Some(own) = OwnServers::lock(test).await else { return };
    let own = own.as_ref().unwrap();
    let stack = Stack::on(&own.servers, &[]).await;
    stack.cli(&["topology", "declare"]).await.ok();
    own.memory_alarm(true).await;

    let done = stack.cli(&["doctor", "--json"]).await;

    own.memory_alarm(false).await;
    let (levels, said) = checks(&done);
    assert_eq!((done.code, levels["broker.alarm"].as_str()), (1, "fail"), "{said}");
}
