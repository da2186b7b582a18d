//! Everything that one measurement consists of: servers, processes, endpoints. All of it is fresh for each one.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

use crate::isolation::broker::Broker;
use crate::isolation::cpu::Cpu;
use crate::isolation::endpoints::{self, ENCRYPTION_KEY, New};
use crate::isolation::receiver::{Manner, Receiver, Site};
use crate::kit::binary::Binary;
use crate::kit::servers::daemon::free_port;
use crate::kit::servers::postgres::Postgres;
use crate::kit::servers::rabbitmq::RabbitMq;
use crate::kit::{database, operate};
use crate::process::{self, Process};
use crate::wait_for;

/// The role of this program's sessions, so that their processes can be told from those of the service.
pub const PRODUCER: &str = "isolation";
const START: Duration = Duration::from_secs(60);
/// Longer than the grace period of the processes.
const STOP: Duration = Duration::from_secs(40);

pub struct Stack {
    pub postgres: Postgres,
    pub rabbitmq: RabbitMq,
    pub broker: Broker,
    receiver: Receiver,
    pub db: PgPool,
    pub relays: Vec<Process>,
    pub workers: Vec<Process>,
    pub binary: Binary,
}

/// A customer with one endpoint.
#[derive(Clone)]
pub struct Customer {
    pub tenant: String,
    pub endpoint: Uuid,
    pub site: Arc<Site>,
}

/// What is not named here has its default.
const SETTINGS: [(&str, &str); 4] = [
    ("delivery.allow_cidrs", r#"["127.0.0.0/8"]"#),
    ("security.encryption_key", ENCRYPTION_KEY),
    ("telemetry.log_format", "json"),
    // Without the line of each attempt.
    ("telemetry.log_level", "info,posthaste::attempts=off"),
];

impl Stack {
    /// Servers, one relay and so many workers; the receiver does not listen yet.
    pub async fn start(dir: &Path, name: &str, changes: &[(&str, &str)], workers: usize) -> Result<Stack, String> {
        let mut stack = Stack::servers(dir, name, changes).await?;
        stack.add_relay().await?;
        for _ in 0..workers {
            stack.add_worker().await?;
        }
        Ok(stack)
    }

    /// Servers with a schema and queues, and no process of ours.
    pub async fn servers(dir: &Path, name: &str, changes: &[(&str, &str)]) -> Result<Stack, String> {
        let dir = dir.join(name);
        std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
        pass_through(&dir)?;
        let metrics_port = free_port();
        let metrics = format!("prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {metrics_port}\n");
        let (postgres, rabbitmq) = operate::start(&dir, &[], &metrics, "rabbitmq_prometheus").await?;
        let binary = Binary::new(&dir, (&postgres.url(), &rabbitmq.url()), SETTINGS.iter().chain(changes).copied());
        for arguments in [["migrate"].as_slice(), &["topology", "declare"]] {
            process::run(&binary, arguments).await?;
        }
        let db = producer(&binary.database_url).await.map_err(|error| error.to_string())?;
        let broker = Broker::observe(&binary.amqp_url, metrics_port, &db).await?;
        let (relays, workers, receiver) = (Vec::new(), Vec::new(), Receiver::new());
        Ok(Stack { postgres, rabbitmq, broker, receiver, db, relays, workers, binary })
    }

    /// Another database on the same server, with a schema and queues of its own, and the binary that uses it. No process of ours
    /// does.
    pub async fn beside(&self, name: &str) -> Result<(PgPool, Binary), String> {
        let create = sqlx::AssertSqlSafe(format!("create database {name}"));
        sqlx::query(create).execute(&self.db).await.map_err(|error| error.to_string())?;
        let mut url = url::Url::parse(&self.binary.database_url).map_err(|error| error.to_string())?;
        url.set_path(name);
        let mut binary = self.binary.clone();
        binary.database_url = url.into();
        binary.settings.push(("broker.prefix".into(), name.into()));
        for arguments in [["migrate"].as_slice(), &["topology", "declare"]] {
            process::run(&binary, arguments).await?;
        }
        let options = (*self.db.connect_options()).clone().database(name);
        Ok((PgPoolOptions::new().max_connections(4).connect_lazy_with(options), binary))
    }

    pub async fn add_relay(&mut self) -> Result<(), String> {
        self.relays.push(self.process("relay", self.relays.len() + 1).await?);
        Ok(())
    }

    pub async fn add_worker(&mut self) -> Result<(), String> {
        self.workers.push(self.process("worker", self.workers.len() + 1).await?);
        Ok(())
    }

    async fn process(&self, role: &str, number: usize) -> Result<Process, String> {
        let process = Process::start(&self.binary, role, &format!("{role}-{number}"), free_port());
        if process.is_served() {
            wait_for(&process.name, START, async || process.is_ready().await.then_some(())).await?;
        }
        Ok(process)
    }

    pub fn listen(&self) -> Result<(), String> {
        self.receiver.listen().map_err(|error| error.to_string())
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        self.binary.command(arguments)
    }

    /// A command to its end; what it printed.
    pub async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        process::run(&self.binary, arguments).await
    }

    pub async fn customer(&self, tenant: &str, manner: Manner, more: &[&str]) -> Result<Customer, String> {
        let site = self.site(manner)?;
        let (endpoint, _) = process::add_endpoint(&self.binary, tenant, &site.url(), more).await?;
        Ok(Customer { tenant: tenant.to_owned(), endpoint, site })
    }

    /// Customers of a name that is theirs alone, each with an endpoint at an address of its own.
    pub async fn customers(&self, name: &str, count: usize, manner: Manner) -> Result<Vec<Customer>, String> {
        let sites = (0..count).map(|_| self.site(manner)).collect::<Result<Vec<_>, _>>()?;
        let tenants: Vec<String> = (1..=count).map(|number| format!("{name}-{number}")).collect();
        let new = |(tenant, site): (&String, &Arc<Site>)| New::enabled(tenant, site.url());
        let new: Vec<New> = tenants.iter().zip(&sites).map(new).collect();
        let ids = endpoints::add(&self.db, &new).await?;
        let customers = tenants.into_iter().zip(ids).zip(sites);
        Ok(customers.map(|((tenant, endpoint), site)| Customer { tenant, endpoint, site }).collect())
    }

    /// An address that no endpoint has yet.
    pub fn site(&self, manner: Manner) -> Result<Arc<Site>, String> {
        self.receiver.add(manner).map_err(|error| error.to_string())
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
        let nothing = async || database::unmoved(&self.db).await.ok().filter(|left| *left == 0).map(drop);
        wait_for("an empty outbox", limit, nothing).await
    }

    /// Until nothing is on its way any more: all that was committed has been moved, sent and recorded.
    pub async fn settled(&self, limit: Duration) -> Result<(), String> {
        self.relayed(limit).await?;
        let left = "select exists (select from posthaste.deliveries where status in ('pending', 'retrying', 'held'))";
        let nothing = async || {
            let left: bool = sqlx::query_scalar(left).fetch_one(&self.db).await.ok()?;
            (!left).then_some(())
        };
        wait_for("everything settled", limit, nothing).await
    }

    pub async fn circuit(&self, endpoint: Uuid) -> Result<String, String> {
        let state = "select circuit_state from posthaste.endpoints where id = $1";
        sqlx::query_scalar(state).bind(endpoint).fetch_one(&self.db).await.map_err(|error| error.to_string())
    }

    pub fn cpu(&self) -> Cpu {
        Cpu::of(self)
    }

    /// An orderly end of all processes, each of which must have lived until now.
    pub async fn stop(mut self) -> Result<(), String> {
        self.stop_processes().await
    }

    /// The same, and others may be started.
    pub async fn stop_processes(&mut self) -> Result<(), String> {
        for process in self.workers.drain(..).chain(self.relays.drain(..)) {
            stop(process).await?;
        }
        Ok(())
    }
}

/// Not having lived until now is an error.
async fn stop(process: Process) -> Result<(), String> {
    let name = process.name.clone();
    if let Some(status) = process.ended() {
        return Err(format!("{name} ended by itself with {status}"));
    }
    process.stop(STOP).await.map_err(|problem| format!("{name} {problem}"))
}

async fn producer(url: &str) -> sqlx::Result<PgPool> {
    let options: PgConnectOptions = url.parse()?;
    let mut session = PgConnection::connect_with(&options).await?;
    let password = url::Url::parse(url).ok().and_then(|url| url.password().map(str::to_owned)).unwrap_or_default();
    let role = format!("create role {PRODUCER} superuser login password '{password}'");
    sqlx::query(sqlx::AssertSqlSafe(role)).execute(&mut session).await?;
    session.close().await?;
    // As many as a steady stream may need while the server is slow.
    Ok(PgPoolOptions::new().max_connections(16).connect_lazy_with(options.username(PRODUCER)))
}

/// The servers run as users of their own below it.
fn pass_through(dir: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o711)).map_err(|error| error.to_string())
}
