//! Bad input: each refusal names the field, the problem and the fix, and does no other harm.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use posthaste::domain::ids::new_v7;
use sqlx::postgres::PgDatabaseError;
use uuid::Uuid;

use crate::harness::{Receiver, Stack, eventually, nowhere};

#[tokio::test]
async fn a_traceparent_of_zeros_is_refused() {
    let stack = Stack::new().await;
    let (trace, span, none) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", "0");
    let emit = "select posthaste.emit('acme', 'a.b', '{}', traceparent => $1)";
    for zeros in [format!("00-{none:0>32}-{span}-01"), format!("00-{trace}-{none:0>16}-01")] {
        let error = sqlx::query(emit).bind(&zeros).execute(&stack.db).await.expect_err(&zeros);
        assert!(
            error.to_string().contains("posthaste: traceparent: ") && error.to_string().contains("zeros"),
            "{error}"
        );
    }
    sqlx::query(emit).bind(format!("00-{trace}-{span}-00")).execute(&stack.db).await.unwrap();
}

#[tokio::test]
async fn sql_refuses_bad_input_by_the_name_of_its_field() {
    let stack = Stack::new().await;
    let cases = [
        ("tenant", "select posthaste.emit('', 'a.b', '{}')"),
        ("tenant", "select posthaste.emit(null, 'a.b', '{}')"),
        ("tenant", "select posthaste.emit(repeat('t', 129), 'a.b', '{}')"),
        ("event_type", "select posthaste.emit('acme', 'order created', '{}')"),
        ("event_type", "select posthaste.emit('acme', '.order', '{}')"),
        ("event_type", "select posthaste.emit('acme', repeat('x', 129), '{}')"),
        ("event_type", "select posthaste.emit('acme', null, '{}')"),
        ("payload", "select posthaste.emit('acme', 'a.b', null)"),
        ("payload", "select posthaste.emit('acme', 'a.b', to_json(repeat('secret', 200000)))"),
        ("idempotency_key", "select posthaste.emit('acme', 'a.b', '{}', repeat('k', 256))"),
        ("max_attempts", "select posthaste.emit('acme', 'a.b', '{}', max_attempts => 0)"),
        ("max_attempts", "select posthaste.emit('acme', 'a.b', '{}', max_attempts => 1001)"),
        ("traceparent", "select posthaste.emit('acme', 'a.b', '{}', traceparent => '00-1-2-3')"),
        (
            "id",
            "insert into posthaste.outbox (id, tenant, event_type, payload) values (gen_random_uuid(), 'acme', 'a.b', '{}')",
        ),
        ("url", "insert into posthaste.endpoints (tenant, url) values ('acme', 'ftp://u:hunter2@example.com')"),
        ("url", "insert into posthaste.endpoints (tenant, url) values ('acme', 'https:// example.com')"),
        (
            "event_types",
            "insert into posthaste.endpoints (tenant, url, event_types) values ('acme', 'https://e.com', '{order*}')",
        ),
        ("status", "insert into posthaste.endpoints (tenant, url, status) values ('acme', 'https://e.com', 'paused')"),
        (
            "max_in_flight",
            "insert into posthaste.endpoints (tenant, url, max_in_flight) values ('acme', 'https://e.com', 0)",
        ),
        ("timeout_ms", "insert into posthaste.endpoints (tenant, url, timeout_ms) values ('acme', 'https://e.com', 0)"),
        (
            "rate_limit_per_second",
            "insert into posthaste.endpoints (tenant, url, rate_limit_per_second) values ('acme', 'https://e.com', 'NaN')",
        ),
        (
            "retry_policy",
            "insert into posthaste.endpoints (tenant, url, retry_policy) values ('acme', 'https://e.com', '')",
        ),
    ];
    for (field, statement) in cases {
        let error = sqlx::query(statement).execute(&stack.db).await.expect_err(statement);
        let error = error.as_database_error().expect(statement).downcast_ref::<PgDatabaseError>();
        let message = error.message();
        assert!(message.starts_with(&format!("posthaste: {field}: ")), "{statement}: {message}");
        assert_eq!((error.code(), error.column()), ("23514", Some(field)), "{statement}");
        assert!(!message.contains("secretsecret") && !message.contains("hunter2"), "{message}");
    }
    let not_json = sqlx::query("select posthaste.emit('acme', 'a.b', '{')").execute(&stack.db).await.unwrap_err();
    assert_eq!(not_json.as_database_error().unwrap().code().unwrap(), "22P02");
    assert_eq!(stack.number("select count(*) from posthaste.outbox").await, 0);
    assert_eq!(stack.number("select count(*) from posthaste.endpoints").await, 0);
}

#[tokio::test]
async fn an_id_far_from_the_databases_clock_is_refused_with_both_times() {
    let stack = Stack::new().await;
    let insert = "insert into posthaste.outbox (id, tenant, event_type, payload) values ($1, 'acme', 'a.b', '{}')";
    let now = chrono::Utc::now();
    for (hours, accepted) in [(-25, false), (-23, true), (0, true), (2, false)] {
        let time = now + chrono::TimeDelta::hours(hours);
        let id = new_v7(time.timestamp_millis() as u64, [hours as u8; 10]);
        let result = sqlx::query(insert).bind(id).execute(&stack.db).await;
        assert_eq!(result.is_ok(), accepted, "{hours} hours from now: {result:?}");
        if let Err(error) = result {
            let message = error.to_string();
            assert!(message.contains(&time.format("has the time %Y-%m-%d %H:%M:%S UTC").to_string()), "{message}");
            assert!(message.contains("set the clock right"), "{message}");
        }
    }
}

#[tokio::test]
async fn a_refusal_rolls_back_only_the_callers_transaction() {
    let stack = Stack::new().await;
    let good = "select posthaste.emit('acme', 'a.b', '{}')";
    let mut other = stack.db.begin().await.unwrap();
    sqlx::query(good).execute(&mut *other).await.unwrap();
    let mut own = stack.db.begin().await.unwrap();
    sqlx::query(good).execute(&mut *own).await.unwrap();
    sqlx::query("select posthaste.emit('acme', 'a b', '{}')").execute(&mut *own).await.unwrap_err();
    own.rollback().await.unwrap();
    let mut saved = stack.db.begin().await.unwrap();
    sqlx::raw_sql("savepoint before").execute(&mut *saved).await.unwrap();
    sqlx::query("select posthaste.emit('acme', 'a b', '{}')").execute(&mut *saved).await.unwrap_err();
    sqlx::raw_sql("rollback to before").execute(&mut *saved).await.unwrap();
    sqlx::query(good).execute(&mut *saved).await.unwrap();
    saved.commit().await.unwrap();
    other.commit().await.unwrap();
    assert_eq!(stack.number("select count(*) from posthaste.outbox").await, 2);
}

#[tokio::test]
async fn a_wrong_configuration_ends_with_64_before_anything_connects() {
    let key = ("security.encryption_key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    for (setting, value, said) in [
        ("retry.schedule", "[]", "retry.schedule: is empty"),
        ("retry.schedule", r#"["0s"]"#, "retry.schedule: delay 1 is zero"),
        ("retry.schedule", r#"["1s", "60d"]"#, "retry.schedule: delay 2 is"),
        ("retry.schedule", r#"["30"]"#, "'30' has no unit"),
        ("retry.scheduel", r#"["30s"]"#, "unknown key; did you mean retry.schedule?"),
        ("retry.slots", "0", "retry.slots: is 0; use 1 to 200"),
        ("retry.permanent_status_codes", "[200]", "retry.permanent_status_codes: 200"),
        ("retry.policies.fast.schedule", "[]", "retry.policies.fast.schedule: is empty"),
        ("broker.prefix", "a b", "broker.prefix: is not a prefix"),
        ("relay.batch_size", "0", "relay.batch_size: is 0; use 1 to 1000"),
        ("delivery.timeout", "fast", "delivery.timeout: 'fast' is not a duration"),
        ("delivery.allow_cidrs", r#"["10.0.0.0/99"]"#, "delivery.allow_cidrs: item 1"),
        ("security.encryption_key", "c2hvcnQ=", "security.encryption_key: holds 5 bytes, not 32"),
        ("security.encryption_key", "", "security.encryption_key: is not set"),
        ("telemetry.listen", "here", "telemetry.listen: is not an address"),
        ("telemetry.log_level", "a=b=c", "telemetry.log_level: is not a filter"),
        ("telemetry.otlp_endpoint", "localhost:4318", "telemetry.otlp_endpoint: is not the URL of a collector"),
        ("telemetry.otlp_endpoint", "http://user:hunter2@host", "telemetry.otlp_endpoint: is not the URL"),
        ("telemetry.trace_ratio", "1.5", "telemetry.trace_ratio: is out of range"),
        ("telemetry.log_delivered", "-1", "telemetry.log_delivered: is out of range"),
        ("operations.tenant", "x".repeat(129).as_str(), "operations.tenant: has 129 characters"),
        ("database.url", "mysql://u:hunter2@host/db", "database.url: begins with mysql://"),
        ("database.url", "", "database.url: is not set"),
        ("broker.url", "http://host", "broker.url: begins with http://"),
    ] {
        let done = nowhere(&["run"], &[key, (setting, value)]).await;
        assert_eq!(done.code, 64, "{setting} = {value}: {}", done.stderr);
        assert!(done.stderr.contains(said), "{setting} = {value}: {}", done.stderr);
        assert!(!done.stderr.contains("hunter2") && done.stdout.is_empty(), "{}", done.stderr);
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let done = nowhere(&["run"], &[key, ("telemetry.listen", &address)]).await;
    let said = format!("telemetry.listen: cannot listen on {address}");
    assert!(done.code == 64 && done.stderr.contains(&said), "{}", done.stderr);
    let missing = nowhere(&["--config", "/none/posthaste.toml", "run"], &[key]).await;
    assert!(
        missing.code == 64 && missing.stderr.contains("/none/posthaste.toml: cannot be read"),
        "{}",
        missing.stderr
    );
}

#[tokio::test]
async fn a_wrong_command_line_ends_with_64_before_anything_connects() {
    let key = ("security.encryption_key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=");
    let add = ["endpoint", "add", "--tenant", "acme", "--url"];
    let at = |url: &'static str| [&add[..], &[url]].concat();
    let with = |more: &[&'static str]| [&at("https://example.com"), more].concat();
    let id = "0190a0a0-0000-7000-8000-000000000000";
    for (arguments, said) in [
        (vec!["fly"], "unrecognized subcommand"),
        (vec!["endpoint", "add"], "required arguments were not provided"),
        (at("nonsense"), "url: the scheme is neither"),
        (at("https://u:hunter2@example.com/"), "url: carries a user name or password"),
        (at("https://exam ple.com"), "url: contains a space"),
        (at("http://127.0.0.1:8080/"), "url: the host resolves to 127.0.0.1, which is not a public address"),
        (at("http://10.1.2.3/"), "delivery.allow_cidrs"),
        (at("http://[::1]/"), "which is not a public address"),
        (at("http://169.254.169.254/latest"), "which is not a public address"),
        (with(&["--secret", "hunter2"]), "does not begin with 'whsec_'"),
        (with(&["--secret", "whsec_hunter2!"]), "is not base64 after 'whsec_'"),
        (with(&["--event-types", "order*"]), "'order*' is not a filter"),
        (with(&["--retry-policy", "none-such"]), "'none-such' is not configured"),
        (with(&["--header", "Webhook-Id: hunter2"]), "the header is set by Posthaste itself"),
        (with(&["--timeout", "11m"]), "use 1ms to 10m"),
        (vec!["event", "emit", "--tenant", "a", "--type", "a b", "--payload", "{}"], "event_type: 'a b' is not valid"),
        (vec!["event", "show", "17"], "invalid value '17'"),
        (vec!["endpoint", "set", id], "required arguments were not provided"),
    ] {
        let done = nowhere(&arguments, &[key]).await;
        assert_eq!(done.code, 64, "{arguments:?}: {}", done.stderr);
        assert!(done.stderr.contains(said), "{arguments:?}: {}", done.stderr);
        assert!(!done.stderr.contains("hunter2"), "{arguments:?}: {}", done.stderr);
    }
}

#[tokio::test]
async fn a_payload_that_the_database_refuses_is_a_usage_error_of_the_command() {
    let stack = Stack::new().await;
    let emit = |payload: &'static str| ["event", "emit", "--tenant", "acme", "--type", "a.b", "--payload", payload];
    let refused = stack.cli(&emit("{")).await;
    assert!(refused.code == 64 && refused.stderr.contains("payload: is not JSON"), "{}", refused.stderr);
    let refused = stack.cli(&[&emit("{}")[..], &["--traceparent", "x"]].concat()).await;
    assert!(refused.code == 64 && refused.stderr.contains("traceparent: 'x' is not a W3C"), "{}", refused.stderr);
    let unknown = stack.cli(&["endpoint", "show", &Uuid::now_v7().to_string()]).await;
    assert!(unknown.code == 1 && unknown.stderr.contains("not found"), "{}", unknown.stderr);
    assert_eq!(stack.number("select count(*) from posthaste.outbox").await, 0);
}

#[tokio::test]
async fn the_configured_size_of_a_payload_holds_for_producers_and_commands_once_migrated() {
    let stack = Stack::new().await;
    let small = [("delivery.max_payload_bytes", "100")];
    stack.cli_with(&["migrate"], &small).await.ok();
    let text = |bytes: usize| format!("\"{}\"", "x".repeat(bytes - 2));
    let emit = "select posthaste.emit('acme', 'a.b', $1::json)";
    let sent = async |bytes| sqlx::query(emit).bind(text(bytes)).execute(&stack.db).await.map(drop);
    sent(100).await.unwrap();
    let refused = sent(101).await.unwrap_err().to_string();
    assert!(refused.contains("payload: has 101 bytes and the limit is 100; store the content elsewhere"), "{refused}");
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text(101)).unwrap();
    let from_file = format!("@{}", file.path().display());
    let command = ["event", "emit", "--tenant", "acme", "--type", "a.b", "--payload", &from_file];
    let done = stack.cli_with(&command, &small).await;
    assert!(done.code == 64 && done.stderr.contains("payload: is over 100 bytes"), "{}", done.stderr);
    assert!(!done.stderr.contains("xxx"), "{}", done.stderr);

    stack.cli(&["migrate"]).await.ok();

    sent(101).await.unwrap();
    stack.cli(&command).await.ok();
    assert_eq!(stack.number("select count(*) from posthaste.outbox").await, 3);
}

#[tokio::test]
async fn an_unknown_endpoint_or_tenant_is_said_and_changes_nothing() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.cli(&["topology", "declare"]).await.ok();
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id.to_string();
    let nobody = Uuid::now_v7().to_string();
    let not_found = format!("endpoint {nobody}: not found; `posthaste endpoint list` shows the ones there are");
    for arguments in [
        vec!["endpoint", "show", &nobody],
        vec!["endpoint", "enable", &nobody],
        vec!["endpoint", "disable", &nobody],
        vec!["endpoint", "set", &nobody, "--description", "shop"],
        vec!["endpoint", "rotate-secret", &nobody],
        vec!["endpoint", "test", &nobody],
        vec!["endpoint", "remove", &nobody, "--yes"],
        vec!["dead", "list", "--endpoint", &nobody],
        vec!["dead", "show", &nobody, "--endpoint", &nobody],
        vec!["requeue", "--endpoint", &nobody, "--yes"],
        vec!["requeue", "--missing", "--endpoint", &nobody, "--since", "1h", "--yes"],
    ] {
        let done = stack.cli(&arguments).await;
        assert!(done.code == 1 && done.stderr.contains(&not_found), "{arguments:?}: {}", done.stderr);
    }
    for command in [&["dead", "list"][..], &["requeue", "--yes"]] {
        let done = stack.cli(&[command, &["--endpoint", &endpoint, "--tenant", "acne"]].concat()).await;
        let said = "belongs to another tenant than 'acne'; leave --tenant out";
        assert!(done.code == 1 && done.stderr.contains(said), "{command:?}: {}", done.stderr);
        let right = stack.cli(&[command, &["--endpoint", &endpoint, "--tenant", "acme"]].concat()).await.ok();
        assert!(!right.stderr.contains("tenant: "), "{}", right.stderr);
    }
    let emit = ["event", "emit", "--type", "a.b", "--payload", "{}"];
    for command in
        [&["endpoint", "list", "--json"][..], &["dead", "list", "--json"], &["requeue", "--json", "--yes"], &emit]
    {
        let done = stack.cli(&[command, &["--tenant", "acne"]].concat()).await.ok();
        assert!(
            done.stderr.contains("tenant: 'acne' has no endpoint; check its spelling"),
            "{command:?}: {}",
            done.stderr
        );
    }
    let known = stack.cli(&[&emit[..], &["--tenant", "acme"]].concat()).await.ok();
    assert!(!known.stderr.contains("has no endpoint"), "{}", known.stderr);
}

#[tokio::test]
async fn jitter_outside_its_range_is_clamped_with_a_warning() {
    let stack = Stack::new().await;
    for (written, used) in [("20000", "10000"), ("-5", "0")] {
        let done = stack.cli_with(&["endpoint", "list"], &[("retry.jitter_bps", written)]).await.ok();
        let warning = format!("retry.jitter_bps: {written} is outside 0 to 10000; {used} is used");
        assert!(done.stderr.contains(&warning) && done.stderr.contains("WARN"), "{}", done.stderr);
    }
}

#[tokio::test]
async fn a_queue_that_exists_with_other_arguments_is_named_with_the_argument() {
    let stack = Stack::new().await;
    let mut arguments = FieldTable::default();
    for (name, value) in [
        ("x-queue-type", "quorum"),
        ("x-dead-letter-exchange", stack.prefix.as_str()),
        ("x-dead-letter-routing-key", "retry"),
        ("x-dead-letter-strategy", "at-least-once"),
        ("x-overflow", "reject-publish"),
    ] {
        arguments.insert(ShortString::from(name), AMQPValue::LongString(value.into()));
    }
    arguments.insert(ShortString::from("x-message-ttl"), AMQPValue::LongLongInt(999));
    stack.declare("delay.300", arguments).await;

    let relay = stack.spawn("relay", &[]);

    assert_eq!(relay.exit_code().await, Some(1));
    let queue = stack.queue("delay.300");
    eventually("the message", async || {
        relay.log().contains(&format!("queue '{queue}' exists with another x-message-ttl")).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_schema_that_is_not_up_to_date_is_said_at_once() {
    let stack = Stack::new().await;
    stack.execute("delete from posthaste.schema_migrations where version = 7").await;

    let worker = stack.spawn("worker", &[]);

    assert_eq!(worker.exit_code().await, Some(1));
    eventually("the message", async || worker.log().contains("run `posthaste migrate` first").then_some(())).await;
}

#[tokio::test]
async fn a_message_that_cannot_be_decoded_goes_to_the_dead_letter_queue() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let id = Uuid::now_v7().to_string();
    let foreign = BasicProperties::default().with_message_id(id.as_str().into());
    stack.publish("deliver", BasicProperties::default(), b"\x00not ours").await;
    stack.publish("retry", foreign, b"{}").await;

    let mut dead_letters = stack.dead_letters(2).await;
    dead_letters.sort_by_key(|dead_letter| dead_letter.body.len());
    assert!(
        dead_letters.iter().all(|dead_letter| dead_letter.header("dead-reason") == "undecodable"),
        "{dead_letters:?}"
    );
    assert_eq!((dead_letters[0].body.as_slice(), dead_letters[1].body.as_slice()), (&b"{}"[..], &b"\x00not ours"[..]));
    assert_eq!(dead_letters[0].header("last-error"), "header endpoint-id: is missing or of the wrong type");
    assert_eq!(dead_letters[1].header("last-error"), "message_id: is missing or not a UUID");
    assert_eq!((stack.depth("deliver").await, stack.depth("retry").await), (0, 0));
    let id = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(id, "delivered").await;
}

#[tokio::test]
async fn an_id_used_before_is_set_aside_and_blocks_nothing() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.run().await;
    let first = stack.emit("acme", "order.created", r#"{"n":1}"#).await;
    stack.wait_status(first, "delivered").await;
    let mut again = stack.db.begin().await.unwrap();
    let insert =
        "insert into posthaste.outbox (id, tenant, event_type, payload) values ($1, 'acme', 'a.b', '{\"n\":2}')";
    sqlx::query(insert).bind(first).execute(&mut *again).await.unwrap();
    let many = "select posthaste.emit('acme', 'a.b', '{}') from generate_series(1, 10)";
    sqlx::query(many).execute(&mut *again).await.unwrap();
    again.commit().await.unwrap();

    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 11)].into());

    let aside = "select error, payload::text from posthaste.set_aside where id = $1";
    let (error, payload): (String, String) = sqlx::query_as(aside).bind(first).fetch_one(&stack.db).await.unwrap();
    assert_eq!((error.split(':').next(), payload.as_str()), (Some("id"), r#"{"n":2}"#));
    assert_eq!(receiver.counts()[&first.to_string()], 1);
}
