//! What an endpoint has missed is replayed, and every requeue leaves an account; what people read instead of JSON.

use std::time::Duration;

use posthaste::store::{Db, Options, idempotency};
use serde_json::json;

use crate::harness::{Receiver, Stack};

#[tokio::test]
async fn an_endpoint_that_was_added_late_gets_what_it_missed_once_and_the_account_says_so() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let _run = stack.run().await;
    let missed = stack.emit_many("acme", "order.created", 30).await;
    stack.emit("acme", "invoice.paid", "{}").await;
    stack.emit("other", "order.created", "{}").await;
    stack.wait_relayed().await;
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &["--event-types", "order.*"]).await.id.to_string();
    let replay = ["requeue", "--missing", "--endpoint", &endpoint, "--since", "1h", "--json"];

    let planned = stack.cli(&[&replay[..], &["--dry-run"]].concat()).await.json();
    assert_eq!((&planned["matched"], &planned["created"]), (&json!(30), &json!(0)));
    let done = stack.cli(&[&replay[..], &["--yes", "--rate", "20"]].concat()).await.json();
    assert_eq!((&done["matched"], &done["created"], &done["requeued"]), (&json!(30), &json!(30), &json!(0)));

    stack.wait_settled().await;
    let counts = receiver.counts();
    assert_eq!(counts.len(), 30, "neither the other type nor the other tenant");
    assert!(missed.iter().all(|id| counts.get(&id.to_string()) == Some(&1)));
    let again = stack.cli(&[&replay[..], &["--yes"]].concat()).await.json();
    assert_eq!((&again["matched"], &again["created"]), (&json!(0), &json!(0)), "nothing is missing any more");
    let account = "select count(*) from posthaste.requeues
                    where finished_at is not null and error is null and selection->>'missing' = 'true'
                      and (matched, created) in ((30, 30), (0, 0))";
    assert_eq!(stack.number(account).await, 2);
}

#[tokio::test]
async fn a_replay_for_a_disabled_endpoint_is_held_and_one_for_nobody_is_refused() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let _run = stack.run().await;
    stack.emit_many("acme", "order.created", 5).await;
    stack.wait_relayed().await;
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    stack.cli(&["endpoint", "disable", &endpoint]).await.ok();

    let replay = ["requeue", "--missing", "--since", "1h", "--until", "0s", "--yes", "--endpoint"];
    let text = stack.cli(&[&replay[..], &[&endpoint]].concat()).await.ok().stdout;
    assert!(text.contains("missed and made") && text.contains('5'), "{text}");
    stack.wait_statuses("held", 5).await;
    stack.cli(&["endpoint", "enable", &endpoint]).await.ok();
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 5)].into());

    let nobody = stack.cli(&[&replay[..], &["01a203e0-23fc-705e-8d5e-f952401a4268"]].concat()).await;
    assert_eq!(nobody.code, 1);
    assert!(nobody.stderr.contains("not found"), "{}", nobody.stderr);
}

#[tokio::test]
async fn expired_idempotency_keys_are_removed_and_live_ones_stay() {
    let stack = Stack::new().await;
    stack
        .execute("select posthaste.emit('acme', 'order.created', '{}', 'key-' || n) from generate_series(1, 1500) n")
        .await;
    stack
        .execute("update posthaste.idempotency_keys set expires_at = now() - interval '1 s' where key < 'key-2'")
        .await;
    let expired = stack.number("select count(*) from posthaste.idempotency_keys where expires_at < now()").await;
    let options = Options {
        found: Default::default(),
        url: stack.binary.database_url.clone().into(),
        tls: posthaste::tls::Files::default(),
        max_connections: 2,
        connect_timeout: Duration::from_secs(5),
        statement_timeout: Duration::from_secs(30),
        lock_timeout: Duration::from_secs(30),
        application_name: "test".into(),
        service: true,
        asynchronous_commit: false,
        by_reference: false,
    };
    let db = Db::new(&options).unwrap();

    assert_eq!(idempotency::remove_expired(&db).await.unwrap(), expired as u64);

    assert_eq!(stack.number("select count(*) from posthaste.idempotency_keys").await, 1500 - expired);
    assert_eq!(idempotency::remove_expired(&db).await.unwrap(), 0);
    db.close().await;
}

#[tokio::test]
async fn what_people_read_names_what_is_there() {
    let (stack, receiver) = (Stack::with(&[("retry.schedule", r#"["100ms"]"#)]).await, Receiver::start());
    receiver.at("/", |_| crate::harness::Reply::status(500));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let run = stack.run().await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "{\"from\": \"a file\"}").unwrap();
    let from_file = format!("@{}", file.path().display());
    let emit = ["event", "emit", "--tenant", "acme", "--type", "order.created", "--payload"];
    let id = stack.cli(&[&emit[..], &[&from_file]].concat()).await.ok().stdout.trim().to_owned();
    stack.wait_status(id.parse().unwrap(), "dead").await;

    let text = async |arguments: &[&str]| stack.cli(arguments).await.ok().stdout;
    assert!(text(&["event", "list", "--tenant", "acme", "--since", "1h"]).await.contains(&id));
    let shown = text(&["event", "show", &id]).await;
    assert!(shown.contains("exhausted") && shown.contains("status 500") && shown.contains("18 bytes"), "{shown}");
    assert!(text(&["dead", "show", &id]).await.contains("exhausted"));
    assert!(text(&["stats"]).await.contains("outbox pending"));
    assert!(text(&["topology", "check"]).await.contains("has every exchange and queue"));
    assert!(text(&["topology", "prune", "--dry-run"]).await.contains("nothing to prune"));
    run.terminate();
    assert_eq!(run.exit_code().await, Some(0));
    let reconciled = text(&["reconcile"]).await;
    assert!(reconciled.contains("lost by the broker") && reconciled.contains("1 kept"), "{reconciled}");

    let unknown = "01a203e0-23fc-705e-8d5e-f952401a4268";
    for arguments in [["event", "show", unknown], ["dead", "show", unknown], ["endpoint", "show", unknown]] {
        assert_eq!(stack.cli(&arguments).await.code, 1, "{arguments:?}");
    }
    let missing_file = stack.cli(&[&emit[..], &["@/nowhere/payload.json"]].concat()).await;
    assert_eq!(missing_file.code, 64);
    assert!(missing_file.stderr.contains("payload: cannot be read"), "{}", missing_file.stderr);
}
