//! Everything works under the roles of `posthaste roles sql`, and what a role must not do is refused.

use std::sync::atomic::{AtomicUsize, Ordering};

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use uuid::Uuid;

use crate::harness::{Done, Process, Receiver, Reply, Roles, Stack, eventually};

const EMIT: &str = "select posthaste.emit($1, 'order.created', '{\"n\": 1}')";

/// A circuit opens soon, and what was lost is found soon.
const SETTINGS: [(&str, &str); 6] = [
    ("circuit.min_failures", "4"),
    ("circuit.min_duration", "0s"),
    ("circuit.cooldown", "300ms"),
    ("delivery.timeout", "1s"),
    ("reconcile.interval", "200ms"),
    ("reconcile.grace", "0s"),
];

/// Taken down in this order, and the processes before anything else.
struct System {
    roles: Roles,
    stack: Stack,
    receiver: Receiver,
    processes: Vec<Process>,
}

impl Drop for System {
    fn drop(&mut self) {
        self.processes.iter().for_each(Process::kill);
    }
}

impl System {
    /// Relay and worker under their roles, on queues that the migrator declared.
    async fn start() -> System {
        let (stack, receiver) = (Stack::with(&SETTINGS).await, Receiver::start());
        let roles = Roles::of(&stack).await;
        let mut system = System { stack, roles, receiver, processes: Vec::new() };
        system.run("migrator", &["topology", "declare"]).await.ok();
        for service in ["relay", "worker"] {
            let process = system.stack.start(service, &[("database.url", &system.roles.url(service))]).await;
            system.processes.push(process);
        }
        system
    }

    async fn run(&self, role: &str, arguments: &[&str]) -> Done {
        self.stack.cli_with(arguments, &[("database.url", &self.roles.url(role))]).await
    }

    /// A tenant with an endpoint at `/<tenant>`, added by an operator.
    async fn tenant(&self, tenant: &str) -> Uuid {
        let url = self.receiver.url(&format!("/{tenant}"));
        let add = ["endpoint", "add", "--json", "--tenant", tenant, "--url", &url];
        self.run("operator", &add).await.json()["id"].as_str().unwrap().parse().unwrap()
    }

    /// By a producer.
    async fn emit(&self, tenant: &str) -> Uuid {
        let mut producer = self.roles.connect("producer").await;
        let id = sqlx::query_scalar(EMIT).bind(tenant).fetch_one(&mut producer).await.unwrap();
        producer.close().await.unwrap();
        id
    }

    fn assert_nothing_was_denied(&self) {
        for process in &self.processes {
            let log = process.log();
            let denied = log.lines().find(|line| line.contains("permission denied") || line.contains("42501"));
            assert!(denied.is_none(), "{}", denied.unwrap_or_default());
        }
    }
}

#[tokio::test]
async fn every_way_of_a_delivery_is_open_under_the_roles() {
    let system = System::start().await;
    let failures = AtomicUsize::new(0);
    let status = |n: usize, first: u16| if n == 1 { Reply::status(first) } else { Reply::ok() };
    system.receiver.at("/flaky", move |n| status(n, 500));
    system.receiver.at("/dead", |_| Reply::status(500));
    system.receiver.at("/gone", |_| Reply::status(410));
    system.receiver.at("/slow", move |n| status(n, 429).header("retry-after", 1));
    system.receiver.at("/broken", move |_| {
        if failures.fetch_add(1, Ordering::Relaxed) < 5 { Reply::status(503) } else { Reply::ok() }
    });
    let mut endpoints = Vec::new();
    for tenant in ["well", "flaky", "dead", "gone", "slow", "broken", "off", "removed"] {
        endpoints.push(system.tenant(tenant).await);
    }
    let [.., off, removed] = endpoints[..] else { unreachable!() };
    for endpoint in [off, removed] {
        system.run("operator", &["endpoint", "disable", &endpoint.to_string()]).await.ok();
    }
    let mut events = Vec::new();
    for tenant in ["well", "flaky", "slow", "broken", "broken", "broken", "broken", "broken", "off"] {
        events.push(system.emit(tenant).await);
    }
    let [dead, gone, ended] = [system.emit("dead").await, system.emit("gone").await, system.emit("removed").await];
    system.stack.wait_status(ended, "held").await;
    system.stack.wait_status(events[8], "held").await;

    system.run("operator", &["endpoint", "enable", &off.to_string()]).await.ok();
    system.run("operator", &["endpoint", "remove", &removed.to_string(), "--yes"]).await.ok();

    for event in events {
        system.stack.wait_status(event, "delivered").await;
    }
    for (event, reason) in [(dead, "exhausted"), (gone, "gone"), (ended, "endpoint_removed")] {
        assert_eq!(system.stack.wait_status(event, "dead").await.dead_reason.as_deref(), Some(reason));
    }
    system.receiver.at("/dead", |_| Reply::ok());
    system.run("operator", &["requeue", "--event", &dead.to_string(), "--yes"]).await.ok();
    system.stack.wait_status(dead, "delivered").await;
    system.assert_nothing_was_denied();
}

#[tokio::test]
async fn what_a_relay_has_left_or_the_broker_has_lost_is_found_under_the_roles() {
    let system = System::start().await;
    let endpoint = system.tenant("acme").await;
    let lost = system.stack.dead(endpoint, ("acme", "order.created"), "exhausted", 5).await;
    let left = system.stack.dead(endpoint, ("acme", "order.created"), "exhausted", 5).await;
    let revive = "update posthaste.deliveries set status = 'pending', dead_reason = null, max_attempts = 5,
                         next_attempt_at = now() - interval '1 minute' where event_id = $1";
    let list = "insert into posthaste.relay_batches (relay, event_ids, endpoint_ids, claimed_at)
                values (1, array[$1], array[$2], now() - interval '1 minute')";
    let mut both = system.stack.db.begin().await.unwrap();
    for event in [lost, left] {
        sqlx::query(revive).bind(event).execute(&mut *both).await.unwrap();
    }
    sqlx::query(list).bind(left).bind(endpoint).execute(&mut *both).await.unwrap();
    both.commit().await.unwrap();

    for event in [lost, left] {
        system.stack.wait_status(event, "delivered").await;
    }

    let lists = "select count(*) from posthaste.relay_batches";
    eventually("the batch is adopted", async || (system.stack.number(lists).await == 0).then_some(())).await;
    system.assert_nothing_was_denied();
}

#[tokio::test]
async fn a_relay_makes_days_that_all_roles_can_use() {
    let system = System::start().await;
    let endpoint = system.tenant("acme").await;
    // As after a week without a relay.
    system
        .stack
        .execute(
            "do $$ declare partition regclass; begin
               for partition in select inhrelid::regclass from pg_inherits
                 where inhparent in ('posthaste.events'::regclass, 'posthaste.deliveries'::regclass, 'posthaste.attempts'::regclass)
               loop execute format('drop table %s', partition); end loop;
             end $$",
        )
        .await;

    let event = system.emit("acme").await;

    system.stack.wait_status(event, "delivered").await;
    system.run("operator", &["endpoint", "disable", &endpoint.to_string()]).await.ok();
    let held = system.emit("acme").await;
    system.stack.wait_status(held, "held").await;
    system.run("operator", &["endpoint", "enable", &endpoint.to_string()]).await.ok();
    system.stack.wait_status(held, "delivered").await;
    let owners = "select count(distinct relowner) from pg_class c join pg_inherits i on i.inhrelid = c.oid
                   where c.relnamespace = 'posthaste'::regnamespace";
    assert_eq!(system.stack.number(owners).await, 1, "they are the migrator's");
    system.assert_nothing_was_denied();
}

#[tokio::test]
async fn every_command_works_under_the_role_that_it_is_for_and_no_other() {
    let system = System::start().await;
    let id = system.tenant("acme").await.to_string();
    let event = system.emit("acme").await.to_string();
    system.stack.wait_statuses("delivered", 1).await;
    let emit = ["event", "emit", "--tenant", "acme", "--type", "a.b", "--payload", "{}"];
    let for_operators: [&[&str]; 29] = [
        &["event", "show", &event],
        &["event", "show", &event, "--payload"],
        &["event", "list", "--status", "delivered"],
        &["policy", "set", "default", "--budget", "3"],
        &["policy", "set", "default", "--budget", "none"],
        &["stats", "--watch", "--samples", "1"],
        &["event", "list"],
        &["dead", "list"],
        &["stats"],
        &["reconcile"],
        &["requeue", "--all", "--yes"],
        &["requeue", "--missing", "--endpoint", &id, "--since", "1h", "--yes"],
        &["endpoint", "list"],
        &["endpoint", "show", &id],
        &["endpoint", "set", &id, "--rate-limit", "100", "--header", "X-Key: 1"],
        &["endpoint", "resume", &id],
        &["endpoint", "rotate-secret", &id, "--scheme", "v1a"],
        &["endpoint", "jwks", &id],
        &["endpoint", "test", &id],
        &["tenant", "set", "acme", "--require-https", "false"],
        &["tenant", "list"],
        &["tenant", "show", "acme"],
        &["history", "show"],
        &["history", "drop", "--before", "2026-01-01", "--yes"],
        &["erase", "--tenant", "acme", "--yes"],
        &["keys", "list"],
        &["keys", "rotate"],
        &["resend", "--endpoint", &id, "--yes"],
        &["retry-now", "--all", "--yes"],
    ];
    for command in for_operators {
        system.run("operator", command).await.ok();
    }
    let for_observers: [&[&str]; 8] = [
        &["stats"],
        &["stats", "--watch", "--samples", "1"],
        &["policy", "list"],
        &["endpoint", "list"],
        &["endpoint", "show", &id],
        &["dead", "list"],
        &["reconcile", "--dry-run"],
        &["history", "show"],
    ];
    for command in for_observers {
        system.run("observer", command).await.ok();
    }
    system.run("producer", &emit).await.ok();
    for command in [&["migrate"][..], &["topology", "declare"], &["topology", "check"], &["topology", "prune", "--yes"]]
    {
        system.run("migrator", command).await.ok();
    }
    system.assert_nothing_was_denied();
}

#[tokio::test]
async fn a_command_under_a_role_that_it_is_not_for_is_refused_and_says_where_rights_come_from() {
    let system = System::start().await;
    let id = system.tenant("acme").await.to_string();
    let event = system.emit("acme").await.to_string();
    let emit = ["event", "emit", "--tenant", "acme", "--type", "a.b", "--payload", "{}"];
    let (show, disable) = (["event", "show", &event], ["endpoint", "disable", &id]);
    let refused: [(&str, &[&str]); 8] = [
        ("operator", &emit),
        ("operator", &["migrate"]),
        ("worker", &emit),
        ("worker", &["migrate"]),
        ("relay", &["endpoint", "list"]),
        ("observer", &show),
        ("observer", &disable),
        ("producer", &["stats"]),
    ];
    for (role, command) in refused {
        let done = system.run(role, command).await;
        assert!(done.code == 1 && done.stderr.contains("permission denied"), "{role} {command:?}: {done:?}");
        assert!(done.stderr.contains("`posthaste roles sql`"), "{}", done.stderr);
    }
}

#[tokio::test]
async fn a_benchmark_takes_the_roles_of_a_producer_and_of_an_operator() {
    let system = System::start().await;
    let both = system.roles.name("bench");
    let make = format!(
        "create role {both} login password 'not-a-secret' in role {}, {}",
        system.roles.name("producer"),
        system.roles.name("operator")
    );
    sqlx::raw_sql(AssertSqlSafe(make)).execute(&system.stack.db).await.unwrap();

    let burst = ["bench", "burst", "--events", "20", "--json"];
    let done = system.run("bench", &burst).await;

    sqlx::raw_sql(AssertSqlSafe(format!("drop role {both}"))).execute(&system.stack.db).await.unwrap();
    assert_eq!(done.json()["deliveries"], 20);
}

/// What is to be refused, with the role that tries.
const REFUSED: [(&str, &str); 32] = [
    ("producer", "select payload from posthaste.outbox"),
    ("producer", "select id from posthaste.events"),
    ("producer", "select * from posthaste.deliveries"),
    ("producer", "select key_ciphertext from posthaste.endpoint_secrets"),
    ("producer", "select url from posthaste.endpoints"),
    ("producer", "delete from posthaste.outbox"),
    (
        "producer",
        "insert into posthaste.outbox (tenant, event_type, payload, created_at) values ('a', 'a.b', '{}', now())",
    ),
    ("producer", "select nextval('posthaste.wake')"),
    ("producer", "select posthaste.create_partitions(current_date, current_date)"),
    ("producer", "select posthaste.confine_producer('postgres', '{a}')"),
    ("relay", "select url from posthaste.endpoints"),
    ("relay", "select key_ciphertext from posthaste.endpoint_secrets"),
    ("relay", "select response_body from posthaste.attempts"),
    ("relay", "update posthaste.endpoints set url = 'https://example.com'"),
    ("relay", "delete from posthaste.events"),
    ("relay", "select posthaste.emit('a', 'a.b', '{}')"),
    ("relay", "create table posthaste.own ()"),
    ("worker", "select posthaste.emit('a', 'a.b', '{}')"),
    ("worker", "insert into posthaste.outbox (tenant, event_type, payload) values ('a', 'a.b', '{}')"),
    ("worker", "update posthaste.endpoints set url = 'https://example.com'"),
    (
        "worker",
        "insert into posthaste.endpoint_secrets (endpoint_id, kind, key_id, key_ciphertext) values (gen_random_uuid(), 'whsec', '', '')",
    ),
    ("worker", "select payload from posthaste.events"),
    ("worker", "delete from posthaste.deliveries"),
    ("worker", "select posthaste.seal_with('00000000')"),
    ("worker", "select * from posthaste.attempts"),
    ("operator", "select posthaste.emit('a', 'a.b', '{}')"),
    ("operator", "create or replace function posthaste.max_payload_bytes() returns int language sql return 1"),
    ("operator", "delete from posthaste.attempts"),
    ("operator", "delete from posthaste.encryption_keys"),
    ("operator", "select posthaste.create_partitions(current_date, current_date)"),
    ("observer", "select payload from posthaste.events"),
    ("observer", "select key_ciphertext from posthaste.endpoint_secrets"),
];

#[tokio::test]
async fn what_a_role_must_not_do_is_refused() {
    let stack = Stack::new().await;
    let roles = Roles::of(&stack).await;
    for (role, statement) in REFUSED {
        assert_eq!(refusal(&roles, role, statement).await.as_deref(), Some("42501"), "{role}: {statement}");
    }
    let day = "select c.oid::regclass::text from pg_class c join pg_inherits i on i.inhrelid = c.oid
                where i.inhparent = 'posthaste.events'::regclass limit 1";
    let day: String = sqlx::query_scalar(day).fetch_one(&stack.db).await.unwrap();
    for role in ["producer", "worker", "observer"] {
        let statement = format!("select payload from {day}");
        assert_eq!(refusal(&roles, role, &statement).await.as_deref(), Some("42501"), "{role}: a day by its name");
    }
}

/// The code with which the server refuses a statement.
async fn refusal(roles: &Roles, role: &str, statement: &str) -> Option<String> {
    let mut connection: PgConnection = roles.connect(role).await;
    let result = sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await;
    let code = result.err()?.as_database_error()?.code()?.into_owned();
    Some(code)
}

#[tokio::test]
async fn a_plain_insert_of_a_producer_is_refused_by_the_name_of_its_field() {
    let stack = Stack::new().await;
    let roles = Roles::of(&stack).await;
    let mut producer = roles.connect("producer").await;
    let insert =
        "insert into posthaste.outbox (tenant, event_type, payload, traceparent) values ('acme', 'a.b', '{}', $1)";
    let zeros = format!("00-{:0>32}-b7ad6b7169203331-01", 0);

    let refused = sqlx::query(insert).bind(zeros).execute(&mut producer).await.unwrap_err().to_string();

    assert!(refused.contains("posthaste: traceparent: "), "{refused}");
}
