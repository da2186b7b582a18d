//! Everything that one measurement consists of: servers, processes, endpoints. All of it is fresh for each one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::process::Command;
use uuid::Uuid;

use crate::binary::{Settings, command, output};
use crate::broker::Broker;
use crate::postgres::{self, Postgres};
use crate::process::{Process, family_cpu_seconds, usage};
use crate::programs::{free_port, wait_for};
use crate::rabbitmq::{self, RabbitMq};
use crate::receiver::{Manner, Receiver, Site};

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(120);

pub struct Stack {
    pub postgres: Postgres,
    pub rabbitmq: RabbitMq,
    pub broker: Broker,
    receiver: Receiver,
    pub db: PgPool,
    pub relays: Vec<Process>,
    pub workers: Vec<Process>,
    dir: PathBuf,
    urls: (String, String),
    settings: Settings,
}

/// CPU time that everything has used so far, in seconds; or between two moments, in percent of a core.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cpu {
    pub workers: f64,
    pub relays: f64,
    pub postgres: f64,
    pub rabbitmq: f64,
    /// The producers and the receivers: this program.
    pub program: f64,
}

impl Cpu {
    /// Without this program.
    pub fn all(self) -> f64 {
        self.workers + self.relays + self.postgres + self.rabbitmq
    }

    /// In percent of a core.
    pub fn since(self, before: Cpu, seconds: f64) -> Cpu {
        let share = |of: fn(Cpu) -> f64| (of(self) - of(before)) / seconds * 100.0;
        Cpu {
            workers: share(|cpu| cpu.workers),
            relays: share(|cpu| cpu.relays),
            postgres: share(|cpu| cpu.postgres),
            rabbitmq: share(|cpu| cpu.rabbitmq),
            program: share(|cpu| cpu.program),
        }
    }
}

/// A customer with one endpoint.
#[derive(Clone)]
pub struct Customer {
    pub tenant: String,
    pub endpoint: Uuid,
    pub site: Arc<Site>,
}

/// What is not named here has its default.
fn settings(changes: &[(&'static str, &str)]) -> Settings {
    let mut settings = vec![
        ("delivery.allow_cidrs", r#"["127.0.0.0/8"]"#),
        ("security.encryption_key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ("telemetry.log_format", "json"),
        // Without the line of each attempt.
        ("telemetry.log_level", "info,posthaste::worker::settler=off"),
    ];
    settings.extend(changes);
    settings.into_iter().map(|(key, value)| (key, value.to_owned())).collect()
}

impl Stack {
    /// Servers, one relay and so many workers; the receiver does not listen yet.
    pub async fn start(
        dir: &Path,
        name: &str,
        changes: &[(&'static str, &str)],
        workers: usize,
    ) -> Result<Stack, String> {
        let dir = dir.join(name);
        std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        pass_through(&dir)?;
        let (settings, metrics_port) = (settings(changes), free_port());
        let servers = tokio::try_join!(Postgres::create(&dir, &[]), RabbitMq::create(&dir, Some(metrics_port)));
        let (postgres, rabbitmq) = servers?;
        let urls = (postgres::url(postgres.port), rabbitmq::url(rabbitmq.port));
        let db = PgPoolOptions::new().max_connections(16).connect_lazy(&urls.0).map_err(|error| error.to_string())?;
        for arguments in [["migrate"].as_slice(), &["topology", "declare"]] {
            output(command(arguments, &urls, &settings, &dir), COMMAND).await?;
        }
        let broker = Broker::observe(&urls.1, metrics_port, &db).await?;
        let relays = vec![Process::start("relay", 1, &urls, &settings, &dir).await?];
        let mut stack = Stack {
            postgres,
            rabbitmq,
            broker,
            receiver: Receiver::new(),
            db,
            relays,
            workers: Vec::new(),
            dir,
            urls,
            settings,
        };
        for number in 1..=workers {
            let worker = Process::start("worker", number, &stack.urls, &stack.settings, &stack.dir).await?;
            stack.workers.push(worker);
        }
        Ok(stack)
    }

    pub fn listen(&self) -> Result<(), String> {
        self.receiver.listen().map_err(|error| error.to_string())
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        command(arguments, &self.urls, &self.settings, &self.dir)
    }

    /// A command to its end; what it printed.
    pub async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        output(self.command(arguments), COMMAND).await
    }

    pub async fn customer(&self, tenant: &str, manner: Manner, more: &[&str]) -> Result<Customer, String> {
        let site = self.receiver.add(manner).map_err(|error| error.to_string())?;
        let url = site.url();
        let mut add = vec!["endpoint", "add", "--json", "--tenant", tenant, "--url", &url];
        add.extend(more);
        let added: Value = serde_json::from_str(&self.run(&add).await?).map_err(|error| error.to_string())?;
        let endpoint = added["id"].as_str().and_then(|id| id.parse().ok()).ok_or("an endpoint without an id")?;
        Ok(Customer { tenant: tenant.to_owned(), endpoint, site })
    }

    pub async fn customers(&self, count: usize, manner: Manner) -> Result<Vec<Customer>, String> {
        let mut customers = Vec::new();
        for number in 1..=count {
            customers.push(self.customer(&format!("customer-{number}"), manner, &[]).await?);
        }
        Ok(customers)
    }

    /// Deliveries of an endpoint with this status.
    pub async fn count(&self, endpoint: Uuid, status: &str) -> Result<i64, String> {
        let count = "select count(*) from posthaste.deliveries where endpoint_id = $1 and status = $2";
        let count = sqlx::query_scalar(count).bind(endpoint).bind(status).fetch_one(&self.db).await;
        count.map_err(|error| error.to_string())
    }

    /// Deliveries that wait in PostgreSQL, of all endpoints.
    pub async fn held(&self) -> Result<i64, String> {
        let count = "select count(*) from posthaste.deliveries where status = 'held'";
        sqlx::query_scalar(count).fetch_one(&self.db).await.map_err(|error| error.to_string())
    }

    /// Until everything that was committed has left the outbox and is confirmed by the broker.
    pub async fn relayed(&self, limit: Duration) -> Result<(), String> {
        let left = "select (select count(*) from posthaste.outbox) + (select count(*) from posthaste.relay_batches)";
        let nothing = async || {
            let left: i64 = sqlx::query_scalar(left).fetch_one(&self.db).await.ok()?;
            (left == 0).then_some(())
        };
        wait_for("an empty outbox", limit, nothing).await
    }

    pub async fn circuit(&self, endpoint: Uuid) -> Result<String, String> {
        let state = "select circuit_state from posthaste.endpoints where id = $1";
        sqlx::query_scalar(state).bind(endpoint).fetch_one(&self.db).await.map_err(|error| error.to_string())
    }

    pub fn cpu(&self) -> Cpu {
        let ours = |processes: &[Process]| processes.iter().map(|process| usage(process.id()).cpu_seconds).sum();
        Cpu {
            workers: ours(&self.workers),
            relays: ours(&self.relays),
            postgres: self.postgres.process().map_or(0.0, family_cpu_seconds),
            rabbitmq: self.rabbitmq.server().map_or(0.0, family_cpu_seconds),
            program: usage(std::process::id()).cpu_seconds,
        }
    }

    /// An orderly end of all processes, each of which must have lived until now.
    pub async fn stop(self) -> Result<(), String> {
        for process in self.workers.into_iter().chain(self.relays) {
            process.stop().await?;
        }
        Ok(())
    }
}

/// The servers run as users of their own below it.
fn pass_through(dir: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)).map_err(|error| error.to_string())
}
