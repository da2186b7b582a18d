//! The runbook's commands, run as they are written: each section's where there is what it is about, and when they are done
//! nothing is left to do. `scripts/incident` runs those of the alerts too, where the alerts fire.

use std::collections::BTreeMap;
use std::io::{Write, stderr};
use std::path::Path;
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use sqlx::{Connection, PgConnection};
use uuid::Uuid;

use super::retention::old_day;
use crate::harness::{PATIENCE, Receiver, Reply, Stack, eventually, psql};
use crate::kit::ask_until;
use crate::kit::runbook::{self, Section};

const ON_THE_NODE: &str =
    "it needs the cookie and the user of RabbitMQ's node; scripts/incident runs it with a node of its own";
/// What cannot be run here, and why.
const NOT_RUN: [(&str, &str); 4] = [
    ("rabbitmq-diagnostics alarms", ON_THE_NODE),
    ("rabbitmqctl list_queues name messages_ready consumers", ON_THE_NODE),
    ("rabbitmqctl list_queues name type state leader", ON_THE_NODE),
    ("rabbitmqctl list_policies", ON_THE_NODE),
];

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is not as it should be.
const LEFT: &str = "
with d as (select to_char((now() at time zone 'utc')::date - 40, 'YYYYMMDD') as old,
                  to_char((now() at time zone 'utc')::date + 7, 'YYYYMMDD') as last)
select what from d cross join lateral (values
  ('events in the outbox', exists (select from posthaste.outbox)),
  ('events set aside', exists (select from posthaste.set_aside)),
  ('deliveries that are not delivered', exists (select from posthaste.deliveries where status <> 'delivered')),
  ('a disabled endpoint', exists (select from posthaste.endpoints where status <> 'enabled')),
  ('a circuit', exists (select from posthaste.endpoints where circuit_state <> 'closed')),
  ('a session', exists (select from pg_stat_activity where datname = current_database() and application_name = 'forgotten')),
  ('an old day', to_regclass('posthaste.events_' || old) is not null),
  ('no last day', to_regclass('posthaste.events_' || last) is null)) as w (what, is_left) where is_left";
const OPEN_A_CIRCUIT: &str = "
update posthaste.endpoints set circuit_state = 'open', circuit_trips = 1, circuit_opened_at = now(),
       circuit_until = now() + interval '1 hour' where id = $1";
const USE_AN_ID_AGAIN: &str = "
insert into posthaste.outbox (id, tenant, event_type, payload)
select id, tenant, event_type, payload from posthaste.events order by id desc limit 1";
const DROP_THE_LAST_DAY: &str = "do $$ begin
  execute format('drop table posthaste.events_%1$s, posthaste.deliveries_%1$s, posthaste.attempts_%1$s',
                 to_char((now() at time zone 'utc')::date + 7, 'YYYYMMDD')); end $$";

struct Scene {
    stack: Stack,
    receiver: Receiver,
    /// Of the tenant `acme`, and well; an event that was delivered to it.
    endpoint: Uuid,
    event: Uuid,
    /// Its receiver refuses the first attempt at each event.
    refusing: Uuid,
    /// What the variables of the commands stand for.
    values: BTreeMap<&'static str, String>,
    forgotten: Option<PgConnection>,
}

impl Scene {
    async fn start() -> Scene {
        let (stack, receiver) = (Stack::with(&[("retry.schedule", r#"["1h"]"#)]).await, Receiver::start());
        receiver.at("/refusing", |n| if n == 1 { Reply::status(401) } else { Reply::ok() });
        let endpoint = stack.endpoint("acme", &receiver.url("/"), &[]).await.id;
        let refusing = stack.endpoint("refusing", &receiver.url("/refusing"), &[]).await.id;
        // The service leaves old days to the commands.
        stack.start("run", &[("retention.days", "3650")]).await;
        let event = stack.emit("acme", "order.created", "{}").await;
        stack.wait_status(event, "delivered").await;
        Scene { stack, receiver, endpoint, event, refusing, values: BTreeMap::new(), forgotten: None }
    }

    fn about(&mut self, endpoint: Uuid, event: Uuid) {
        self.values.insert("ENDPOINT", endpoint.to_string());
        self.values.insert("EVENT", event.to_string());
    }

    /// Makes what the section is about. False: it is about something that nobody would see in the database.
    async fn make(&mut self, section: &str) -> bool {
        let endpoint = self.endpoint;
        self.values.clear();
        self.about(endpoint, self.event);
        match section {
            "dead-letters" => self.dead(endpoint, "exhausted").await,
            "poison" => self.dead(endpoint, "poison").await,
            "retries-waiting" => self.refused(&[]).await,
            "secret-leaked" => {
                self.refused(&["--max-attempts", "1"]).await;
                self.refused(&[]).await;
                self.stack.age_the_dead().await;
            }
            "many-circuits-open" => {
                self.stack.change(endpoint, OPEN_A_CIRCUIT).await;
                let held = self.stack.emit("acme", "order.created", "{}").await;
                self.stack.wait_status(held, "held").await;
            }
            "outbox-old" => {
                let lock = "begin; lock table posthaste.events, posthaste.idempotency_keys in access exclusive mode";
                self.forget(lock, "BLOCKER").await;
                self.stack.emit("acme", "order.created", "{}").await;
            }
            "no-leader" => self.forget("select pg_advisory_lock(4711)", "HOLDER").await,
            "set-aside" => {
                self.stack.execute(USE_AN_ID_AGAIN).await;
                let set_aside = "select count(*) from posthaste.set_aside";
                eventually("it is set aside", async || (self.stack.number(set_aside).await == 1).then_some(())).await;
            }
            "partitions-overdue" => drop(self.stack.execute(DROP_THE_LAST_DAY).await),
            "retention-overdue" => {
                old_day(&self.stack, 40, endpoint, "delivered", 1).await;
                self.forget("begin; select from posthaste.events limit 1", "BLOCKER").await;
                let day = chrono::Utc::now() - chrono::TimeDelta::days(30);
                self.values.insert("DAY", day.date_naive().to_string());
            }
            "a-customer-asks-for-a-replay" => {
                // To this one, all earlier events are missing.
                let url = self.receiver.url("/late");
                let late = self.stack.endpoint("acme", &url, &[]).await.id;
                self.dead(late, "exhausted").await;
            }
            "broker-wiped" => {
                self.stack.delete_queues(&["delay.3600000"]).await;
                return false;
            }
            _ => return false,
        }
        true
    }

    async fn dead(&mut self, endpoint: Uuid, reason: &str) {
        let event = self.stack.dead(endpoint, ("acme", "order.created"), reason, 5).await;
        self.about(endpoint, event);
    }

    /// An event whose first attempt is answered with 401.
    async fn refused(&mut self, more: &[&str]) {
        let emit = ["event", "emit", "--json", "--tenant", "refusing", "--type", "order.created", "--payload", "{}"];
        let emitted = self.stack.cli(&[&emit, more].concat()).await.json();
        let event = emitted["id"].as_str().unwrap().parse().unwrap();
        self.stack.wait_status(event, if more.is_empty() { "retrying" } else { "dead" }).await;
        self.about(self.refusing, event);
    }

    /// A session that somebody has forgotten; the variable is its process.
    async fn forget(&mut self, statement: &'static str, variable: &'static str) {
        let options: PgConnectOptions = self.stack.binary.database_url.parse().unwrap();
        let mut session = PgConnection::connect_with(&options.application_name("forgotten")).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut session).await.unwrap();
        let process: i32 = sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut session).await.unwrap();
        self.values.insert(variable, process.to_string());
        self.forgotten = Some(session);
    }

    async fn left(&self) -> Vec<String> {
        sqlx::query_scalar(LEFT).fetch_all(&self.stack.db).await.expect(LEFT)
    }

    /// What went wrong, if anything did. An error does not end psql everywhere.
    async fn run(&self, command: &str) -> Option<String> {
        let values: Vec<(&str, &str)> = self.values.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let done = self.stack.shell(Path::new(env!("CARGO_MANIFEST_DIR")), command, &values).await;
        let is_error = command.starts_with("psql") && done.stderr.contains("ERROR:");
        (done.code != 0 || is_error).then(|| format!("{command}: {} {}{}", done.code, done.stdout, done.stderr))
    }
}

#[tokio::test]
async fn every_command_of_the_runbook_does_what_its_section_says() {
    if psql().is_none() {
        // Not by the macro: what a passing test prints is not shown.
        let _ = writeln!(stderr(), "SKIPPED the commands of the runbook: there is no psql");
        return;
    }
    let mut scene = Scene::start().await;
    let (mut failed, mut run) = (Vec::new(), 0);
    for section in runbook::sections() {
        let commands = commands(&section);
        let commands: Vec<&String> = commands.iter().filter(|command| !is_left_out(command)).collect();
        let anchor = &section.anchor;
        let is_seen = scene.make(anchor).await;
        assert!(!is_seen || !commands.is_empty(), "#{anchor} has no commands any more, and something is made for it");
        assert_eq!(
            scene.left().await.is_empty(),
            !is_seen,
            "before the commands of #{anchor}: {:?}",
            scene.left().await
        );
        let before = failed.len();
        for command in commands {
            run += 1;
            failed.extend(scene.run(command).await.map(|problem| format!("#{anchor}: {problem}")));
        }
        if failed.len() > before {
            break;
        }
        let done = ask_until(PATIENCE, LOOK_AGAIN, async || scene.left().await.is_empty().then_some(())).await;
        assert!(done.is_some(), "after the commands of #{anchor}: {:?}", scene.left().await);
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    assert!(run > 50, "{run} commands");
}

#[test]
fn what_is_left_out_is_in_the_runbook_and_is_no_command_of_ours() {
    let commands: Vec<String> = runbook::sections().iter().flat_map(commands).collect();
    for (command, reason) in NOT_RUN {
        assert!(commands.iter().any(|written| written == command), "`{command}` is not in the runbook any more");
        assert!(!["posthaste ", "psql "].iter().any(|ours| command.starts_with(ours)), "`{command}` can be run");
        assert!(!reason.is_empty(), "`{command}` is left out without a reason");
    }
}

/// One by one.
fn commands(section: &Section) -> Vec<String> {
    let lines = section.blocks.iter().flat_map(|block| block.lines()).map(str::trim);
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned).collect()
}

fn is_left_out(command: &str) -> bool {
    NOT_RUN.iter().any(|(left_out, _)| *left_out == command)
}
