//! Secrets and payloads that are easy to recognise go through everything that the program does. Then they are nowhere that
//! they must not be: no log, metric, output, error, recorded attempt or broker header, in no disguise.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::CommandFactory;
use lapin::BasicProperties;
use lapin::types::AMQPValue;
use posthaste::cli::Cli;
use tempfile::TempDir;
use uuid::Uuid;

use crate::harness::{Done, Process, Receiver, Reply, Stack, eventually, nowhere};
use crate::kit::signal;

mod debug;
mod disguises;

use disguises::found;

const PAYLOAD: &str = "canary-payload-4111111111111111";
const HEADER: &str = "canary-value-of-a-custom-header";
const SECRET: &str = "canary-secret-for-signing-by-v1";
/// 32 bytes each.
const PRIVATE: &str = "canary-private-key-of-32-bytes-!";
const ENCRYPTION: &str = "canary-encryption-key-of-32-byte";
const PASSWORD: &str = "canary-password-of-the-database";
const TOKEN: &str = "canary-token-in-the-url";
const REPLY: &str = "canary-reply-of-the-receiver";
const ALL: [&str; 8] = [PAYLOAD, HEADER, SECRET, PRIVATE, ENCRYPTION, PASSWORD, TOKEN, REPLY];

/// Whoever asks for an endpoint sees its URL, and whoever makes a secret sees it this once.
const SHOWS_URL: &[&str] = &[TOKEN];
const SHOWS_SECRET: &[&str] = &[TOKEN, SECRET];
/// The beginning of what a receiver has answered is kept with the attempt.
const SHOWS_REPLY: &[&str] = &[REPLY];
/// Whoever asks for the payload sees it.
const SHOWS_ALL: &[&str] = &[REPLY, PAYLOAD];

struct Run {
    stack: Stack,
    receiver: Receiver,
    files: TempDir,
    database_url: String,
    /// Commands that were run, by their names.
    ran: RefCell<BTreeSet<String>>,
    /// Where something was said, what, and what may be in it.
    said: RefCell<Vec<(String, String, &'static [&'static str])>>,
}

impl Run {
    async fn new() -> Run {
        let key = STANDARD.encode(ENCRYPTION);
        let settings = [
            ("security.encryption_key", key.as_str()),
            ("retry.schedule", r#"["300ms", "1h"]"#),
            ("circuit.min_failures", "3"),
            ("circuit.min_duration", "0s"),
            ("circuit.cooldown", "10m"),
            ("telemetry.log_level", "debug"),
        ];
        let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
        for path in ["/later", "/failing"] {
            let reply = || Reply::status(500).header("x-reply", REPLY).body(REPLY);
            receiver.at(&format!("{path}?{TOKEN}"), move |_| reply());
        }
        receiver.at(&format!("/gone?{TOKEN}"), |_| Reply::status(410));
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("key"), format!("whsk_{}\n", STANDARD.encode(PRIVATE))).unwrap();
        std::fs::write(files.path().join("payload"), format!("{{\"card\": \"{PAYLOAD}\"}}")).unwrap();
        std::fs::write(files.path().join("damaged"), format!("{{\"card\": \"{PAYLOAD}\"")).unwrap();
        // A server that trusts its host does not look at the password.
        let mut url = url::Url::parse(&stack.binary.database_url).unwrap();
        if url.password().is_none() {
            url.set_password(Some(PASSWORD)).unwrap();
        }
        Run { stack, receiver, files, database_url: url.into(), ran: RefCell::default(), said: RefCell::default() }
    }

    fn file(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }

    fn note(&self, place: impl Into<String>, text: impl Into<String>, may_hold: &'static [&'static str]) {
        self.said.borrow_mut().push((place.into(), text.into(), may_hold));
    }

    fn note_command(&self, arguments: &[&str]) -> String {
        let (mut command, mut name) = (Cli::command(), Vec::new());
        for argument in arguments {
            let Some(sub) = command.find_subcommand(argument).cloned() else { break };
            name.push(*argument);
            command = sub;
        }
        let name = name.join(" ");
        self.ran.borrow_mut().insert(name.clone());
        name
    }

    async fn cli(&self, arguments: &[&str], may_show: &'static [&'static str]) -> Done {
        let name = self.note_command(arguments);
        let done = self.stack.cli_with(arguments, &[("database.url", self.database_url.as_str())]).await;
        self.note(format!("stdout of {name}"), &*done.stdout, may_show);
        self.note(format!("stderr of {name}"), &*done.stderr, &[]);
        done
    }

    async fn service(&self, command: &str) -> Process {
        self.note_command(&[command]);
        let settings = [("database.url", self.database_url.as_str()), ("telemetry.jwks", "true")];
        self.stack.start(command, &settings).await
    }

    /// An endpoint of the tenant, at the path of the same name.
    async fn endpoint(&self, tenant: &str) -> String {
        let (url, secret) = (self.receiver.url(&format!("/{tenant}?{TOKEN}")), self.secret());
        let (key, header) = (self.file("key"), format!("Authorization: Bearer {HEADER}"));
        let add =
            ["endpoint", "add", "--json", "--tenant", tenant, "--url", &url, "--secret", &secret, "--header", &header];
        let more = ["--scheme", "v1,v1a", "--private-key-file", &key];
        let added = self.cli(&[&add[..], &more].concat(), SHOWS_SECRET).await.json();
        added["id"].as_str().unwrap().to_owned()
    }

    fn secret(&self) -> String {
        format!("whsec_{}", STANDARD.encode(SECRET))
    }

    async fn emit(&self, tenant: &str, more: &[&str]) -> Uuid {
        let payload = format!("@{}", self.file("payload"));
        let emit = ["event", "emit", "--json", "--tenant", tenant, "--type", "order.created", "--payload", &payload];
        let emitted = self.cli(&[&emit[..], more].concat(), &[]).await.json();
        emitted["id"].as_str().unwrap().parse().unwrap()
    }
}

#[tokio::test]
async fn secrets_and_payloads_are_nowhere_that_they_must_not_be() {
    let run = Run::new().await;
    for command in [&["migrate"][..], &["topology", "declare"], &["topology", "check", "--json"]] {
        run.cli(command, &[]).await.ok();
    }
    let services = [run.service("relay").await, run.service("worker").await];
    let delivered = every_outcome(&run).await;
    look_at_the_broker(&run).await;
    every_command(&run, delivered).await;
    commands_that_fail(&run).await;
    test_receiver(&run);
    let both = run.service("run").await;
    look_at_services(&run, &[&services[..], &[both]].concat()).await;
    look_at_the_database(&run).await;

    let leaves = leaves(&Cli::command(), "");
    assert_eq!(leaves, *run.ran.borrow(), "every command was run");
    let said = run.said.borrow();
    for (place, text, may_hold) in said.iter() {
        for canary in ALL.iter().filter(|canary| !may_hold.contains(canary)) {
            let disguise = found(canary, text);
            let line = text.lines().find(|line| disguise.as_ref().is_some_and(|disguise| line.contains(disguise)));
            assert_eq!(disguise, None, "{canary} is in {place}: {line:?}");
        }
    }
    let places =
        |what: &str| said.iter().filter(|(place, text, _)| place.starts_with(what) && !text.is_empty()).count();
    assert!(places("stdout") > 30 && places("log") == 3 && places("metrics") == 3 && places("table") > 5);
    let request = &run.receiver.requests_to(&format!("/ok?{TOKEN}"))[0];
    assert!(request.header("authorization").contains(HEADER), "what was looked for was there");
    assert!(String::from_utf8_lossy(&request.body).contains(PAYLOAD));
}

fn leaves(command: &clap::Command, above: &str) -> BTreeSet<String> {
    let below = command.get_subcommands().filter(|sub| sub.get_name() != "help");
    let named = below.map(|sub| (sub, format!("{above} {}", sub.get_name()).trim().to_owned()));
    named.flat_map(|(sub, name)| if sub.has_subcommands() { leaves(sub, &name) } else { [name].into() }).collect()
}

/// Delivered, waiting for a retry, dead, held by a circuit, gone, disabled, removed, and held for secrets that cannot be opened.
async fn every_outcome(run: &Run) -> Uuid {
    let stack = &run.stack;
    for tenant in ["ok", "later", "failing", "gone"] {
        run.endpoint(tenant).await;
    }
    let delivered = run.emit("ok", &["--idempotency-key", "one"]).await;
    stack.wait_status(delivered, "delivered").await;
    run.emit("later", &[]).await;
    stack.wait_depth("delay.3600000", 1).await;
    let open = "select count(*) from posthaste.endpoints where circuit_state <> 'closed'";
    eventually("a circuit is open", async || {
        run.emit("failing", &["--max-attempts", "1"]).await;
        (stack.number(open).await == 1).then_some(())
    })
    .await;
    let held = run.emit("failing", &[]).await;
    stack.wait_status(held, "held").await;
    let gone = run.emit("gone", &[]).await;
    stack.wait_status(gone, "dead").await;

    let removed = run.endpoint("removed").await;
    run.cli(&["endpoint", "disable", &removed, "--json"], SHOWS_URL).await.ok();
    let left = run.emit("removed", &[]).await;
    stack.wait_status(left, "held").await;
    run.cli(&["endpoint", "remove", &removed, "--yes"], &[]).await.ok();
    stack.wait_status(left, "dead").await;

    let damaged: Uuid = run.endpoint("damaged").await.parse().unwrap();
    let damage = "update posthaste.endpoints set headers = set_byte(headers, 40, (get_byte(headers, 40) + 1) % 256) where id = $1";
    stack.change(damaged, damage).await;
    let unopened = run.emit("damaged", &[]).await;
    stack.wait_status(unopened, "held").await;
    delivered
}

async fn look_at_the_broker(run: &Run) {
    let stack = &run.stack;
    let before = stack.number("select count(*) from posthaste.deliveries where status = 'dead'").await;
    // Something that is not ours. Its body goes on as it is, and nothing else of it.
    let mut headers = lapin::types::FieldTable::default();
    headers.insert("authorization".into(), AMQPValue::LongString(HEADER.into()));
    stack.publish("deliver", BasicProperties::default().with_headers(headers), PAYLOAD.as_bytes()).await;
    for dead_letter in stack.dead_letters(u32::try_from(before).unwrap() + 1).await {
        run.note("headers of a dead letter", written(&dead_letter.properties), &[]);
    }
    run.note("headers of a message in a delay queue", written(&stack.take("delay.3600000").await), &[]);
}

/// Properties and headers, with texts as texts.
fn written(properties: &BasicProperties) -> String {
    let headers = properties.headers().iter().flat_map(|table| table.inner().iter());
    let headers = headers.map(|(name, value)| match value {
        AMQPValue::LongString(text) => format!("{name}: {text}\n"),
        other => format!("{name}: {other:?}\n"),
    });
    let headers: String = headers.collect();
    format!("{properties:?}\n{:?} {:?}\n{headers}", properties.message_id(), properties.kind())
}

const SHOW_NOTHING: [&[&str]; 6] = [
    &["history", "show"],
    &["history", "show", "--json"],
    &["history", "drop", "--before", "2026-01-01", "--yes"],
    &["erase", "--tenant", "nobody", "--yes"],
    &["bench", "burst", "--events", "5", "--json"],
    &["capacity", "--events-per-second", "2000", "--endpoints", "5000"],
];

async fn every_command(run: &Run, delivered: Uuid) {
    let (event, ok) = (delivered.to_string(), run.endpoint("ok").await);
    let dead = a_dead_one(run).await;
    let (secret, key) = (run.secret(), run.file("key"));
    let commands: [(&[&str], &'static [&'static str]); 47] = [
        (&["topology", "prune", "--yes"], &[]),
        (&["keygen"], &[]),
        (&["keys", "list"], &[]),
        (&["keys", "list", "--json"], &[]),
        (&["keys", "rotate", "--json"], &[]),
        (&["roles", "sql"], &[]),
        (&["roles", "rabbitmq"], &[]),
        (&["tenant", "set", "ok", "--require-https", "false"], &[]),
        (&["tenant", "list", "--json"], &[]),
        (&["tenant", "show", "ok"], &[]),
        (&["completions", "bash"], &[]),
        (&["stats"], &[]),
        (&["stats", "--json"], &[]),
        (&["endpoint", "list"], SHOWS_URL),
        (&["endpoint", "list", "--json"], SHOWS_URL),
        (&["endpoint", "show", &ok], SHOWS_URL),
        (&["endpoint", "show", &ok, "--json"], SHOWS_URL),
        (&["endpoint", "set", &ok, "--header", "X-Key: canary-value-of-a-custom-header"], SHOWS_URL),
        (&["endpoint", "rotate-secret", &ok, "--secret", &secret], SHOWS_SECRET),
        (&["endpoint", "rotate-secret", &ok, "--scheme", "v1a", "--private-key-file", &key, "--json"], &[]),
        (&["endpoint", "jwks", &ok], &[]),
        (&["endpoint", "disable", &ok], SHOWS_URL),
        (&["endpoint", "enable", &ok, "--json"], SHOWS_URL),
        (&["endpoint", "resume", &ok], SHOWS_URL),
        (&["endpoint", "test", &ok], &[]),
        (&["policy", "list"], &[]),
        (&["policy", "set", "default", "--budget", "none"], &[]),
        (&["doctor", "--json"], &[]),
        (&["stats", "--watch", "--samples", "1", "--interval", "1s"], &[]),
        (&["event", "show", &event], SHOWS_REPLY),
        (&["event", "show", &event, "--payload"], SHOWS_ALL),
        (&["event", "list", "--status", "delivered", "--like", "*"], &[]),
        (&["event", "show", &event, "--json"], SHOWS_REPLY),
        (&["event", "list"], &[]),
        (&["event", "list", "--json"], &[]),
        (&["dead", "list"], &[]),
        (&["dead", "list", "--json"], &[]),
        (&["dead", "show", &dead], SHOWS_REPLY),
        (&["dead", "show", &dead, "--payload", "--json"], SHOWS_ALL),
        (&["dead", "show", &dead, "--json"], SHOWS_REPLY),
        (&["requeue", "--all", "--dry-run"], &[]),
        (&["requeue", "--event", &dead, "--yes", "--json"], &[]),
        (&["resend", "--event", &event, "--yes", "--json"], &[]),
        (&["retry-now", "--all", "--dry-run"], &[]),
        (&["requeue", "--error", "timeout", "--dry-run", "--json"], &[]),
        (&["reconcile", "--dry-run", "--json"], &[]),
        (&["reconcile"], &[]),
    ];
    for (arguments, may_show) in commands {
        run.cli(arguments, may_show).await.ok();
    }
    for arguments in SHOW_NOTHING {
        run.cli(arguments, &[]).await.ok();
    }
}

async fn a_dead_one(run: &Run) -> String {
    let dead = "select event_id::text from posthaste.deliveries where dead_reason = 'exhausted' limit 1";
    sqlx::query_scalar(dead).fetch_one(&run.stack.db).await.unwrap()
}

async fn commands_that_fail(run: &Run) {
    let damaged = format!("@{}", run.file("damaged"));
    let emit = ["event", "emit", "--tenant", "ok", "--type", "order.created", "--payload", &damaged];
    assert_eq!(run.cli(&emit, &[]).await.code, 64, "that is not JSON");
    let failing = "select id::text from posthaste.endpoints where tenant = 'failing'";
    let failing: String = sqlx::query_scalar(failing).fetch_one(&run.stack.db).await.unwrap();
    assert_eq!(run.cli(&["endpoint", "test", &failing, "--json"], SHOWS_REPLY).await.code, 1);
    let other = [("security.encryption_key", "canary-encryption-key-of-32-byte")];
    let (database, broker) =
        (format!("postgres://u:{PASSWORD}@127.0.0.1:1/x"), format!("amqp://u:{PASSWORD}@127.0.0.1:1"));
    let servers = [("database.url", database.as_str()), ("broker.url", broker.as_str())];
    let url = format!("https://u:{PASSWORD}@example.com/");
    let add = ["endpoint", "add", "--tenant", "acme", "--url"];
    let (secret, header) = (format!("whsec_{SECRET}"), format!("Bearer {HEADER}"));
    for (arguments, settings) in [
        (vec!["endpoint", "list"], &other[..]),
        (vec!["stats"], &servers[..]),
        (vec!["topology", "check"], &servers[..]),
        ([&add[..], &[url.as_str()]].concat(), &servers[..]),
        ([&add[..], &["https://example.com/", "--secret", secret.as_str()]].concat(), &servers[..]),
        ([&add[..], &["https://example.com/", "--header", header.as_str()]].concat(), &servers[..]),
    ] {
        let done = nowhere(&arguments, settings).await;
        assert_ne!(done.code, 0, "{arguments:?}");
        run.note(
            format!("output of {} that failed", arguments[..2.min(arguments.len())].join(" ")),
            done.stdout + &done.stderr,
            &[],
        );
    }
}

/// The test receiver, when somebody sends it something.
fn test_receiver(run: &Run) {
    run.note_command(&["receiver"]);
    let mut command = run.stack.command(&["receiver"], &[]);
    command.env("POSTHASTE_RECEIVER_SECRET", run.secret());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let address = line.trim().strip_prefix("listening on http://").expect("it says where it listens");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!(
        "POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\nwebhook-id: 1\r\nwebhook-signature: v1,{HEADER}\r\n"
    );
    write!(stream, "{head}content-length: {}\r\n\r\n{PAYLOAD}", PAYLOAD.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    signal(child.id(), libc::SIGTERM);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    let stderr = child.wait_with_output().unwrap().stderr;
    run.note("output of receiver", line + &rest + &answer + &String::from_utf8_lossy(&stderr), &[]);
}

async fn look_at_services(run: &Run, services: &[Process]) {
    for service in services {
        run.note("metrics", service.get("/metrics").await.1, &[]);
        run.note("readiness", service.get("/readyz").await.1, &[]);
        service.terminate();
        service.exit_code().await;
        run.note("log", service.log(), &[]);
    }
}

/// All tables but those that are there to hold payloads.
async fn look_at_the_database(run: &Run) {
    let tables = "select c.relname::text, table_to_xml(c.oid::regclass, true, true, '')::text
                    from pg_class c join pg_namespace n on n.oid = c.relnamespace
                   where n.nspname = 'posthaste' and c.relkind in ('r', 'p') and not c.relispartition
                     and c.relname not in ('outbox', 'events', 'set_aside')";
    let tables: Vec<(String, String)> = sqlx::query_as(tables).fetch_all(&run.stack.db).await.unwrap();
    for (table, rows) in tables {
        let may_hold = match table.as_str() {
            "attempts" => SHOWS_REPLY,
            "endpoints" => SHOWS_URL,
            _ => &[],
        };
        run.note(format!("table {table}"), rows, may_hold);
    }
}
