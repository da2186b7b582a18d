//! What operators look at: health, metrics, and the answers of commands.

use std::io::{ErrorKind, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Process, Proxy, Receiver, Reply, Stack, eventually, within};

async fn readiness(process: &Process, status: u16) -> Value {
    eventually(&format!("/readyz answers {status}"), async || {
        let (got, body) = process.get("/readyz").await;
        (got == status).then(|| serde_json::from_str(&body).expect("JSON"))
    })
    .await
}

#[tokio::test]
async fn readiness_says_no_while_the_database_or_the_broker_is_away() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let (database, broker) = (Proxy::to(&stack.binary.database_url), Proxy::to(&stack.binary.amqp_url));
    let urls = [
        ("database.url", database.url(&stack.binary.database_url)),
        ("broker.url", broker.url(&stack.binary.amqp_url)),
    ];
    let settings = urls.each_ref().map(|(key, url)| (*key, url.as_str()));
    // Each role by itself: neither may hide behind the other.
    let processes = [stack.start("relay", &settings).await, stack.start("worker", &settings).await];
    for (proxy, name) in [(&database, "database"), (&broker, "broker")] {
        proxy.cut();
        for process in &processes {
            let body = readiness(process, 503).await;
            assert_eq!(body["ready"], json!(false));
            assert!(body["not_ready"][name].is_string(), "{name}: {body}");
            assert_eq!(process.get("/healthz").await, (200, "ok\n".to_owned()), "it lives");
        }
        let during = stack.emit("acme", "order.created", "{}").await;
        proxy.forward();
        for process in &processes {
            assert_eq!(readiness(process, 200).await, json!({"ready": true, "not_ready": {}}));
        }
        assert_eq!(stack.wait_status(during, "delivered").await.attempts, 1);
    }
}

#[tokio::test]
async fn readiness_says_within_ten_seconds_that_the_broker_is_silent() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let broker = Proxy::to(&stack.binary.amqp_url);
    let url = broker.url(&stack.binary.amqp_url);
    let settings = [("broker.url", url.as_str())];
    let processes = [stack.start("relay", &settings).await, stack.start("worker", &settings).await];
    let event = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(event, "delivered").await;

    // As a broker that is frozen: connections stay as they are, and nothing comes.
    let began = Instant::now();
    broker.stall();

    for process in &processes {
        let not_ready = async || {
            let (status, body) = process.get("/readyz").await;
            (status == 503).then_some(body)
        };
        let body = within(Duration::from_secs(60), "/readyz answers 503", not_ready).await;
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        assert!(body.contains("the broker is silent"), "{body}");
    }
    // It stays so: the connections look as good as before.
    tokio::time::sleep(Duration::from_secs(1)).await;
    for process in &processes {
        assert_eq!(process.get("/readyz").await.0, 503);
    }
    let during = stack.emit("acme", "order.created", "{}").await;
    broker.forward();
    for process in &processes {
        readiness(process, 200).await;
    }
    stack.wait_status(during, "delivered").await;
}

#[tokio::test]
async fn a_process_waits_for_servers_that_come_later() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    let (database, broker) = (Proxy::to(&stack.binary.database_url), Proxy::to(&stack.binary.amqp_url));
    database.cut();
    broker.cut();
    let urls = [
        ("database.url", database.url(&stack.binary.database_url)),
        ("broker.url", broker.url(&stack.binary.amqp_url)),
    ];
    let process = stack.spawn("run", &urls.each_ref().map(|(key, url)| (*key, url.as_str())));
    process.logged_message("not ready to start; trying again").await;
    assert_eq!(process.get("/readyz").await.0, 503);
    database.forward();
    broker.forward();
    let id = stack.emit("acme", "order.created", "{}").await;
    stack.wait_status(id, "delivered").await;
}

#[tokio::test]
async fn the_schedules_their_queues_and_the_worst_cases_are_said_at_start() {
    let settings = [
        ("retry.policies.gold.schedule", r#"["1h", "1s"]"#),
        ("retry.policies.gold.jitter_bps", "2000"),
        ("retry.policies.short.budget", "1"),
        ("retry.policies.short.max_retry_after", "1h"),
    ];
    let stack = Stack::with(&settings).await;
    let process = stack.run().await;
    for (policy, schedule, attempts, queues, worst) in
        // 300 ms and 600 ms of waiting and three time-outs of 10 s; in the other one an hour and 18.75 % of it.
        [("default", "[300, 600]", 3, 2, 30), ("gold", "[3600000, 1000]", 3, 32, 4306)]
    {
        let said = |line: &Value| (line["message"] == "retry policy" && line["policy"] == policy).then(|| line.clone());
        let line = process.logged("its retry policies", said).await;
        assert_eq!((&line["schedule_ms"], &line["max_attempts"]), (&json!(schedule), &json!(attempts)), "{line}");
        let figures = (&line["delay_queues"], &line["worst_case_to_dead_letter_s"]);
        assert_eq!(figures, (&json!(queues), &json!(worst)), "{line}");
    }
    let short = |line: &Value| (line["policy"] == "short").then(|| line.clone());
    let line = process.logged("the policy with a budget", short).await;
    // One wait of 300 ms, or of an hour where the receiver asks for it, and two time-outs.
    let figures = ["max_attempts", "budget", "retries", "worst_case_to_dead_letter_s", "worst_case_with_retry_after_s"];
    assert_eq!(figures.map(|figure| line[figure].clone()), [3, 1, 1, 20, 3620].map(|figure| json!(figure)), "{line}");
    let declared = stack.number("select count(*) from posthaste.delay_queues").await;
    assert_eq!(declared, 2 + 32, "what is said is what is declared");
}

#[tokio::test]
async fn the_metrics_count_what_happened() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/flaky", |n| if n == 1 { Reply::status(500) } else { Reply::ok() });
    receiver.at("/broken", |_| Reply::reset());
    stack.endpoint("ok", &receiver.url("/ok"), &[]).await;
    stack.endpoint("flaky", &receiver.url("/flaky"), &[]).await;
    stack.endpoint("broken", &receiver.url("/broken"), &[]).await;
    let process = stack.run().await;
    stack.emit_many("ok", "order.created", 5).await;
    stack.emit_many("flaky", "order.created", 3).await;
    stack.emit_many("broken", "order.created", 2).await;
    stack.wait_settled().await;

    let expected = [
        (r#"posthaste_attempts_total{outcome="delivered",status_class="2xx"}"#, 8.0),
        (r#"posthaste_attempts_total{outcome="retry",status_class="5xx"}"#, 3.0),
        (r#"posthaste_attempts_total{outcome="retry",status_class="reset"}"#, 4.0),
        (r#"posthaste_attempts_total{outcome="dead",status_class="reset"}"#, 2.0),
        (r#"posthaste_dead_letters_total{reason="exhausted"}"#, 2.0),
        ("posthaste_relay_published_total", 10.0),
        ("posthaste_attempt_duration_seconds_count", 17.0),
        (r#"posthaste_first_attempt_latency_seconds_count{health="healthy"}"#, 5.0),
        (r#"posthaste_first_attempt_latency_seconds_count{health="failing"}"#, 5.0),
        (r#"posthaste_delivery_latency_seconds_count{health="healthy"}"#, 5.0),
        (r#"posthaste_delivery_latency_seconds_count{health="failing"}"#, 3.0),
        (r#"posthaste_dependency_up{dependency="broker"}"#, 1.0),
        (r#"posthaste_dependency_up{dependency="database"}"#, 1.0),
        ("posthaste_deliveries_in_flight", 0.0),
        ("posthaste_outbox_pending", 0.0),
        ("posthaste_outbox_oldest_age_seconds", 0.0),
        ("posthaste_dead_letter_depth", 2.0),
        (r#"posthaste_queue_depth{queue="dead"}"#, 2.0),
        (r#"posthaste_queue_depth{queue="deliver"}"#, 0.0),
        ("posthaste_held_deliveries", 0.0),
    ];
    for (series, value) in expected {
        // Gauges of shared state are read every few seconds.
        eventually(&format!("{series} is {value}"), async || {
            (process.metrics().await.get(series) == Some(&value)).then_some(())
        })
        .await;
    }
    let metrics = process.metrics().await;
    let doubled = metrics.get("posthaste_duplicates_discarded_total").copied().unwrap_or_default();
    assert_eq!(doubled, 0.0);
    assert!(!metrics.keys().any(|series| series.contains("endpoint_id")), "no series per endpoint");
    promtool_accepts(&process.get("/metrics").await.1);
    let version = format!(r#"posthaste_build_info{{version="{}""#, env!("CARGO_PKG_VERSION"));
    assert!(metrics.keys().any(|series| series.starts_with(&version)), "{metrics:?}");
    // Whole seconds of CPU, which may still be 0.
    for (of_process, least) in
        [("process_cpu_seconds_total", 0.0), ("process_resident_memory_bytes", 1e6), ("process_open_fds", 3.0)]
    {
        assert!(metrics.get(of_process).is_some_and(|value| *value >= least), "{of_process}: {metrics:?}");
    }
}

/// Where promtool is not there, as the gate installs it, nothing is checked.
fn promtool_accepts(text: &str) {
    let check =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut check = match check {
        Err(error) if error.kind() == ErrorKind::NotFound => return eprintln!("promtool is not there"),
        check => check.expect("promtool"),
    };
    check.stdin.take().expect("its input").write_all(text.as_bytes()).expect("promtool reads");
    let done = check.wait_with_output().expect("promtool ends");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn retries_that_wait_are_counted_by_tier_and_by_one_relay() {
    let settings = [("retry.schedule", r#"["1h", "2h"]"#), ("retry.jitter_bps", "1000"), ("retry.slots", "4")];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/broken", |_| Reply::status(500));
    stack.endpoint("broken", &receiver.url("/broken"), &[]).await;
    let relays = [stack.start("relay", &[]).await, stack.start("relay", &[]).await];
    let _worker = stack.start("worker", &[]).await;
    let waiting = |tier: &str| format!(r#"posthaste_retries_waiting{{tier="{tier}"}}"#);
    // Few enough that their circuit stays closed: they wait in the broker.
    stack.emit_many("broken", "order.created", 3).await;
    eventually("one relay counts three retries", async || {
        let counts = [relays[0].metrics().await, relays[1].metrics().await];
        let of = |tier: &str| counts.each_ref().map(|all| all.get(&waiting(tier)).copied());
        (of("1h").contains(&Some(3.0)) && of("1h").contains(&None) && of("2h").contains(&Some(0.0))).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_endpoint_with_a_rate_limit_is_not_expected_to_be_sent_to_at_once() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("slow", &receiver.url("/"), &["--rate-limit", "50"]).await;
    let process = stack.run().await;
    stack.emit_many("slow", "order.created", 4).await;
    stack.wait_settled().await;
    let of = |endpoint: &str| format!(r#"posthaste_first_attempt_latency_seconds_count{{health="{endpoint}"}}"#);
    eventually("four first attempts of a limited endpoint", async || {
        (process.metrics().await.get(&of("limited")) == Some(&4.0)).then_some(())
    })
    .await;
    assert!(!process.metrics().await.contains_key(&of("healthy")));
}

#[tokio::test]
async fn every_attempt_has_one_line_in_the_log() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/?token=hunter2", |n| if n == 1 { Reply::status(500).body("why-not") } else { Reply::ok() });
    let endpoint = stack.endpoint("acme", &receiver.url("/?token=hunter2"), &[]).await;
    // Delivered ones are said at debug only.
    let process = stack.start("run", &[("telemetry.log_level", "info,posthaste::attempts=debug")]).await;
    let id = stack.emit("acme", "order.created", r#"{"card":"4111"}"#).await;
    stack.wait_status(id, "delivered").await;

    for (attempt, outcome, code) in [(1, "retry", 500), (2, "delivered", 200)] {
        let line = process
            .logged("the attempt", |line| {
                (line["message"] == "attempt" && line["attempt"] == attempt).then(|| line.clone())
            })
            .await;
        assert_eq!((&line["outcome"], &line["http.response.status_code"]), (&json!(outcome), &json!(code)));
        let error = if code == 500 { (json!("500"), json!("status 500")) } else { (json!(null), json!(null)) };
        assert_eq!((line["error.type"].clone(), line["error.message"].clone()), error);
        assert_eq!(line["event_id"], json!(id.to_string()));
        assert_eq!(line["endpoint_id"], json!(endpoint.id.to_string()));
        assert_eq!(line["event_type"], json!("order.created"));
        assert!(line["duration_ms"].is_u64(), "{line}");
    }
    let log = process.log();
    assert_eq!(log.matches("\"message\":\"attempt\"").count(), 2);
    for secret in ["hunter2", "4111", "why-not", endpoint.secret.as_str()] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

#[tokio::test]
async fn a_share_of_the_delivered_attempts_is_logged_and_the_lines_of_all_can_be_left_out() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/down", |_| Reply::status(500));
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.endpoint("other", &receiver.url("/down"), &[]).await;
    let lines = |process: &Process| process.log().matches("\"message\":\"attempt\"").count();

    let half = stack.start("run", &[("telemetry.log_delivered", "0.5")]).await;
    stack.emit_many("acme", "order.created", 200).await;
    stack.wait_settled().await;
    half.terminate();
    half.exit_code().await;
    assert!((60..=140).contains(&lines(&half)), "{} of 200", lines(&half));

    let silent = [("telemetry.log_delivered", "1"), ("telemetry.log_level", "info,posthaste::attempts=off")];
    let none = stack.start("run", &silent).await;
    stack.emit_many("acme", "order.created", 10).await;
    stack.emit_many("other", "order.created", 1).await;
    stack.wait_settled().await;
    none.terminate();
    none.exit_code().await;
    assert_eq!(lines(&none), 0);
}

#[tokio::test]
async fn every_reading_command_prints_one_json_value() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    receiver.at("/", |n| if n == 1 { Reply::status(500) } else { Reply::ok() });
    let arguments = ["--description", "shop", "--rate-limit", "50", "--timeout", "5s", "--event-types", "order.*"];
    let endpoint = stack.endpoint("acme", &receiver.url("/"), &arguments).await.id.to_string();
    stack.run().await;
    let emitted =
        stack.cli(&["event", "emit", "--tenant", "acme", "--type", "order.created", "--payload", "[1]", "--json"]);
    let id: uuid::Uuid = emitted.await.json()["id"].as_str().unwrap().parse().unwrap();
    stack.wait_status(id, "delivered").await;
    let event = id.to_string();

    let shown = stack.cli(&["event", "show", &event, "--json"]).await.json();
    assert_eq!(shown["event"]["payload_bytes"], json!(3));
    assert_eq!((&shown["event"]["matched"], &shown["event"]["tenant"]), (&json!(1), &json!("acme")));
    assert_eq!(shown["deliveries"][0]["status"], json!("delivered"));
    assert_eq!(shown["attempts"].as_array().unwrap().len(), 2);
    let listed = stack.cli(&["event", "list", "--json"]).await.json();
    assert_eq!(listed.as_array().unwrap().len(), 1);
    assert_eq!(listed[0]["id"], json!(event));
    let other = stack.cli(&["event", "list", "--tenant", "other", "--json"]).await.json();
    assert_eq!(other, json!([]));
    let shown = stack.cli(&["endpoint", "show", &endpoint, "--json"]).await.json();
    assert_eq!((&shown["description"], &shown["timeout_ms"]), (&json!("shop"), &json!(5000)));
    assert_eq!((&shown["event_types"], &shown["live_secrets"]), (&json!(["order.*"]), &json!(1)));
    let changed = stack.cli(&["endpoint", "set", &endpoint, "--timeout", "none", "--event-types", "*", "--json"]).await;
    let changed = changed.json();
    assert_eq!((&changed["timeout_ms"], &changed["event_types"]), (&json!(null), &json!(null)));
    let listed = stack.cli(&["endpoint", "list", "--json"]).await.json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[0]["id"]), (1, &json!(endpoint)));
    let tested = stack.cli(&["endpoint", "test", &endpoint, "--json"]).await;
    let tried: Value = serde_json::from_str(&tested.stdout).unwrap();
    assert_eq!((tested.code, &tried["delivered"], &tried["status_code"]), (1, &json!(false), &json!(500)));
    let table = stack.cli(&["event", "show", &event]).await.ok().stdout;
    assert!(table.contains("delivered") && table.contains("status 500"), "{table}");
}
