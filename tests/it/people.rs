//! What commands say to people, ask them, and draw for them.

use std::io::Write;
use std::process::Stdio;

use crate::harness::{Done, Proxy, Receiver, Reply, Stack, at_a_terminal, command, nowhere};

/// Runs a command at a terminal, without keeping the test's other tasks waiting.
async fn at_terminal(stack: &Stack, arguments: &[&str], typed: &'static str) -> Done {
    let command = stack.command(arguments, &[]);
    tokio::task::spawn_blocking(move || at_a_terminal(command, typed)).await.unwrap()
}

#[tokio::test]
async fn somebody_at_a_terminal_is_asked_first_and_then_sees_how_far_it_is() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    stack.run().await;
    for _ in 0..12 {
        stack.dead(endpoint, ("acme", "order.created"), "exhausted", 10).await;
    }
    let requeue = ["requeue", "--all", "--rate", "6"];
    for no in ["n\n", "\n", "yes, please\n"] {
        let refused = at_terminal(&stack, &requeue, no).await;
        assert_eq!((refused.code, refused.stdout.as_str()), (1, ""), "{no:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("Requeue 12 deliveries? [y/N]"), "{}", refused.stderr);
        assert!(refused.stderr.contains("nothing was changed"), "{}", refused.stderr);
    }
    assert_eq!(stack.statuses().await, [("dead".to_owned(), 12)].into());
    assert_eq!(stack.number("select count(*) from posthaste.requeues").await, 0, "a run that was not begun");

    let done = at_terminal(&stack, &requeue, "y\n").await;

    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(done.stderr.contains("/12 requeued") && done.stderr.contains("left"), "the bar: {}", done.stderr);
    assert!(done.stdout.contains("requeued           12"), "{}", done.stdout);
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 12)].into());

    let id = endpoint.to_string();
    let kept = at_terminal(&stack, &["endpoint", "remove", &id], "no\n").await;
    assert!(kept.code == 1 && kept.stderr.contains("of tenant acme? [y/N]"), "{}", kept.stderr);
    let removed = at_terminal(&stack, &["endpoint", "remove", &id], "yes\n").await;
    assert_eq!(
        (removed.code, removed.stdout.trim()),
        (0, "removed; 0 unfinished deliveries are dead now (endpoint_removed)")
    );
}

#[tokio::test]
async fn what_a_command_about_an_endpoint_did_is_said_in_words() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/", |_| Reply::status(503));
    let (url, given) = (receiver.url("/"), format!("whsec_{}", "QUJD".repeat(8)));
    let add = ["endpoint", "add", "--tenant", "acme", "--url", &url, "--secret", &given, "--description", "the shop"];
    let added = stack.cli(&add).await.ok().stdout;
    for part in [format!("secret  {given}  (shown this once)"), url.clone(), "the shop".into(), "enabled".into()] {
        assert!(added.contains(&part), "{part}: {added}");
    }
    let id = added.split_whitespace().nth(1).unwrap();

    let header = ["endpoint", "set", id, "--header", "X-Api-Key: hunter2"];
    assert!(!stack.cli(&header).await.ok().stdout.contains("hunter2"));
    let tested = stack.cli(&["endpoint", "test", id]).await;
    assert_eq!(tested.code, 1);
    assert!(tested.stdout.contains("status 503") && tested.stdout.contains("delivered  false"), "{}", tested.stdout);
    assert!(tested.stderr.contains("the endpoint did not answer with 2xx"), "{}", tested.stderr);
    stack.cli(&["endpoint", "set", id, "--no-headers"]).await.ok();
    stack.cli(&["endpoint", "test", id]).await;
    let sent: Vec<String> = receiver.requests().iter().map(|r| r.header("x-api-key").to_owned()).collect();
    assert_eq!(sent, ["hunter2", ""], "the header was set, and removed");

    let rotated = stack.cli(&["endpoint", "rotate-secret", id, "--grace", "90m"]).await.ok().stdout;
    assert!(rotated.contains("old ones sign for  1h 30m") && rotated.contains("whsec_"), "{rotated}");
    let disabled = stack.cli(&["endpoint", "disable", id]).await.ok().stdout;
    assert!(disabled.contains("disabled by an operator"), "{disabled}");
    let unresolved = ["endpoint", "add", "--tenant", "acme", "--url", "https://none.invalid/hooks"];
    let accepted = stack.cli(&unresolved).await.ok();
    assert!(accepted.stderr.contains("url: the host does not resolve just now; accepted"), "{}", accepted.stderr);
}

#[tokio::test]
async fn events_come_from_stdin_and_what_a_requeue_would_do_is_said_in_words() {
    let (stack, receiver) = (Stack::with(&[("delivery.max_payload_bytes", "40")]).await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    let emit = ["event", "emit", "--tenant", "acme", "--type", "order.created", "--payload", "-", "--json"];
    let fed = |payload: String| {
        let mut command = stack.command(&emit, &[]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(payload.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let emitted = fed("{ \"from\": \"stdin\" }\n".into());
    let id: serde_json::Value = serde_json::from_slice(&emitted.stdout).unwrap();
    let large = fed(format!("\"{}\"", "x".repeat(39)));
    assert_eq!(large.status.code(), Some(64), "{}", String::from_utf8_lossy(&large.stderr));

    stack.run().await;

    assert_eq!(receiver.wait_for(1).await[0].body, b"{ \"from\": \"stdin\" }\n");
    assert_eq!(receiver.requests()[0].id(), id["id"].as_str().unwrap());
    stack.wait_settled().await;
    stack.dead(endpoint, ("acme", "order.created"), "exhausted", 10).await;
    let removed = stack.endpoint("gone", &receiver.url("/"), &[]).await.id;
    stack.dead(removed, ("gone", "order.created"), "endpoint_removed", 10).await;
    stack.cli(&["endpoint", "remove", &removed.to_string(), "--yes"]).await.ok();
    let planned = stack.cli(&["requeue", "--all", "--dry-run"]).await.ok().stdout;
    for part in ["matched", "nothing (--dry-run)", "1 of endpoints that were removed"] {
        assert!(planned.contains(part), "{planned}");
    }
    for command in ["requeue", "resend", "retry-now"] {
        let planned = stack.cli(&[command, "--endpoint", &endpoint.to_string(), "--dry-run"]).await.ok().stdout;
        let whose = format!("endpoint  {} of tenant acme", receiver.url("/"));
        assert!(planned.contains(&whose), "{command}: {planned}");
    }
    let done = stack.cli(&["requeue", "--all", "--yes"]).await.ok().stdout;
    assert!(done.contains("dead-letter queue  ") && done.contains("written"), "{done}");
}

#[tokio::test]
async fn a_burst_and_a_retired_queue_are_told_in_words() {
    let stack = Stack::with(&[("retry.schedule", r#"["300ms", "1h"]"#)]).await;
    stack.run().await;
    let told = stack.cli(&["bench", "burst", "--events", "20", "--payload-bytes", "5"]).await.ok().stdout;
    assert!(told.contains("deliveries          20") && told.contains("duplicates          0"), "{told}");
    let now = [("retry.schedule", r#"["300ms"]"#)];
    let planned = stack.cli_with(&["topology", "prune", "--dry-run"], &now).await.ok().stdout;
    assert!(planned.contains("would be: unbound; run prune again"), "{planned}");
    stack.cli_with(&["topology", "prune", "--yes"], &now).await.ok();
    let draining = stack.cli_with(&["topology", "prune", "--yes"], &now).await.ok().stdout;
    assert!(
        draining.contains(&stack.queue("delay.3600000")) && draining.contains("draining, 0 messages left"),
        "{draining}"
    );
}

#[tokio::test]
async fn a_database_that_cannot_be_used_is_named_with_the_reason() {
    let refused = nowhere(&["stats"], &[("database.connect_timeout", "300ms")]).await;
    let said = "cannot connect to 127.0.0.1:1: Connection refused";
    assert!(refused.code == 1 && refused.stderr.contains(said), "{}", refused.stderr);
    // A host that is not there, or a firewall: packets are lost, and nobody refuses.
    let somewhere = Stack::new().await;
    let silent = Proxy::to(&somewhere.binary.database_url);
    silent.stall();
    let url = silent.url("postgres://somebody@127.0.0.1/none");
    let lost = nowhere(&["stats"], &[("database.url", &url), ("database.connect_timeout", "300ms")]).await;
    let port = url::Url::parse(&url).unwrap().port().unwrap();
    let timed_out = format!("cannot connect to 127.0.0.1:{port}: no answer within ");
    assert!(lost.code == 1 && lost.stderr.contains(&timed_out), "{}", lost.stderr);
    let migrating = nowhere(&["migrate"], &[]).await;
    assert!(migrating.code == 1 && migrating.stderr.contains(said), "{}", migrating.stderr);
    let secret =
        [("database.url", "postgres://somebody:hunter2@127.0.0.1:1/none"), ("database.connect_timeout", "300ms")];
    assert!(!nowhere(&["stats"], &secret).await.stderr.contains("hunter2"));

    let stack = Stack::new().await;
    let mut elsewhere = url::Url::parse(&stack.binary.database_url).unwrap();
    elsewhere.set_path("postgres");
    let stats = stack.cli_with(&["stats"], &[("database.url", elsewhere.as_str())]).await;
    assert!(stats.code == 1 && stats.stderr.contains("run `posthaste migrate` first"), "{}", stats.stderr);
}

#[tokio::test]
async fn a_producer_that_emits_by_command_gets_the_id_though_it_may_see_nothing_else() {
    let stack = Stack::new().await;
    let mut producer = url::Url::parse(&stack.binary.database_url).unwrap();
    producer.query_pairs_mut().append_pair("options[role]", "posthaste_producer");
    let emit = ["event", "emit", "--tenant", "acme", "--type", "order.created", "--payload", "{}"];

    let emitted = stack.cli_with(&emit, &[("database.url", producer.as_str())]).await.ok();

    let id: uuid::Uuid = emitted.stdout.trim().parse().unwrap();
    let found = sqlx::query_scalar::<_, i64>("select count(*) from posthaste.outbox where id = $1").bind(id);
    assert_eq!(found.fetch_one(&stack.db).await.unwrap(), 1);
}

#[tokio::test]
async fn what_others_wrote_does_not_reach_the_terminal_as_commands() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
    stack
        .change(
            endpoint,
            r"update posthaste.endpoints set tenant = E'acme\x1b[2J\u009b31m\u202e', status = 'disabled',
                 description = E'a\x1b]0;owned\x07\r\nnote', disabled_reason = E'\x1b[31m' where id = $1",
        )
        .await;
    let event = stack.emit("acme\u{1b}[2J\u{9b}31m\u{202e}", "order.created", "{}").await.to_string();
    stack.relay().await;
    stack.wait_relayed().await;
    let id = endpoint.to_string();
    for command in [
        &["endpoint", "list"][..],
        &["endpoint", "show", &id],
        &["event", "list"],
        &["event", "show", &event],
        &["stats"],
    ] {
        let done = stack.cli(command).await.ok();
        let active = |c: char| (c.is_control() && c != '\n') || c == '\u{202e}';
        assert!(!done.stdout.contains(active) && !done.stderr.contains(active), "{command:?}: {done:?}");
    }
    let shown = stack.cli(&["endpoint", "show", &id]).await.ok().stdout;
    assert!(shown.contains(r"acme\u{1b}[2J\u{9b}31m\u{202e}") && shown.contains(r"\r\nnote"), "{shown}");
}

#[tokio::test]
async fn a_reader_that_has_gone_changes_no_exit_code() {
    let without_configuration = ["--config", "/nowhere/posthaste.toml", "stats"];
    for (arguments, code) in [(&["topology", "check"][..], 1), (&without_configuration, 64), (&["keygen"], 0)] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = command(arguments, directory.path());
        command.env("AMQP_URL", "amqp://127.0.0.1:1").stdin(Stdio::null());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        command.stdout(writer.try_clone().unwrap()).stderr(writer);
        let status = tokio::task::spawn_blocking(move || command.status().unwrap()).await.unwrap();
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
}
