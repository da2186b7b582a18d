//! Everything that a run consists of: servers, processes, endpoints.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::chaos::kind::{Role, Server};
use crate::chaos::ledger::{Clock, Ledger, TENANT, TYPES};
use crate::chaos::producers::Pause;
use crate::chaos::proxy::Proxy;
use crate::chaos::receiver::Receiver;
use crate::chaos::schedule::{ENDPOINTS, WORKERS};
use crate::chaos::service::Service;
use crate::kit::binary::Binary;
use crate::kit::operate;
use crate::kit::servers::postgres::Postgres;
use crate::kit::servers::rabbitmq::RabbitMq;
use crate::process::{self, Settings};

/// Requests in flight in all workers together. A third of them is for what is due again: fewer could not keep up with an endpoint
/// that is behind.
const CONCURRENCY: usize = 32 * WORKERS;
/// Messages of one worker, which may be the only one just then, whose request is under way or waits for being recorded.
pub const IN_HAND: usize = 2 * CONCURRENCY;
/// How long the receiver takes for an answer unless it is told otherwise.
const WORK_MS: (u64, u64) = (20, 80);
/// What a process that is asked to stop may take for what it has in hand.
pub const GRACE: Duration = Duration::from_secs(10);
pub const PREFIX: &str = "posthaste";

pub struct Stack {
    pub clock: Clock,
    pub ledger: Arc<Ledger>,
    /// Of the producers.
    pub pause: Pause,
    pub postgres: Mutex<Postgres>,
    pub rabbitmq: Mutex<RabbitMq>,
    pub services: Vec<Arc<Service>>,
    pub receiver: Arc<Receiver>,
    pub endpoints: Vec<Uuid>,
    /// Endpoints that are there for a time only, with the number that they have at the receiver.
    guests: std::sync::Mutex<HashMap<Uuid, usize>>,
    pub database_url: String,
    pub db: PgPool,
    /// Between the commands and the broker.
    door: Proxy,
    binary: Binary,
}

/// Short waits, so that many faults fit into a run. What is not named here has its default.
pub fn settings(changes: Settings) -> Settings {
    let mut settings: Settings = [
        ("retry.schedule", r#"["1s", "2s", "4s", "8s", "8s", "8s", "8s", "8s", "8s", "8s"]"#),
        ("retry.slots", "2"),
        ("delivery.allow_cidrs", r#"["127.0.0.0/8"]"#),
        ("delivery.connect_timeout", "1s"),
        ("delivery.timeout", "2s"),
        ("database.connect_timeout", "2s"),
        ("database.statement_timeout", "5s"),
        ("database.max_connections", "8"),
        ("broker.operation_timeout", "3s"),
        ("broker.heartbeat", "2s"),
        ("reconcile.interval", "1s"),
        ("reconcile.grace", "1s"),
        ("circuit.min_duration", "5s"),
        ("circuit.cooldown", "2s"),
        ("circuit.max_cooldown", "4s"),
        ("security.encryption_key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
        ("telemetry.log_format", "json"),
        // Without the line of each attempt.
        ("telemetry.log_level", "info,posthaste::attempts=warn"),
    ]
    .map(|(key, value)| (key, value.to_owned()))
    .to_vec();
    settings.push(("shutdown.grace", format!("{}s", GRACE.as_secs())));
    settings.push(("worker.concurrency", CONCURRENCY.to_string()));
    settings.push(("broker.prefix", PREFIX.to_owned()));
    settings.extend(changes);
    settings
}

/// Changes of those settings: longer waits, where servers are many and their machine is one.
pub fn patient(changes: Settings) -> Settings {
    let longer = [
        ("database.connect_timeout", "20s"),
        ("database.statement_timeout", "30s"),
        ("delivery.timeout", "10s"),
        ("broker.operation_timeout", "5s"),
        ("broker.heartbeat", "4s"),
    ];
    longer.map(|(key, value)| (key, value.to_owned())).into_iter().chain(changes).collect()
}

impl Stack {
    /// Servers, receiver and endpoints are there; the processes are not started yet.
    pub async fn start(dir: &Path, settings: Settings, postgres_options: &[&str]) -> Result<Stack, String> {
        Stack::start_as(None, dir, settings, postgres_options).await
    }

    /// With a program of another version, which makes the schema and the endpoints.
    pub async fn start_as(
        program: Option<PathBuf>,
        dir: &Path,
        settings: Settings,
        postgres_options: &[&str],
    ) -> Result<Stack, String> {
        let (postgres, rabbitmq) = operate::start(dir, postgres_options, "", "").await?;
        let database_url = postgres.url();
        Stack::on(program, dir, settings, (postgres, rabbitmq), database_url).await
    }

    /// On servers that run already, with the URL of the database for everybody who is told no other one by the settings.
    pub async fn on(
        program: Option<PathBuf>,
        dir: &Path,
        settings: Settings,
        (postgres, rabbitmq): (Postgres, RabbitMq),
        database_url: String,
    ) -> Result<Stack, String> {
        let clock = Clock::start();
        let amqp_url = rabbitmq.url();
        let door = Proxy::to(Server::Broker, &amqp_url);
        let binary = Binary { program, ..Binary::new(dir, (&database_url, &amqp_url), settings) };
        let db = PgPoolOptions::new().max_connections(4).test_before_acquire(true).connect_lazy(&database_url);
        let receiver = Receiver::start(clock, WORK_MS).await.map_err(|error| error.to_string())?;
        let mut stack = Stack {
            clock,
            ledger: Arc::default(),
            pause: Pause::default(),
            postgres: Mutex::new(postgres),
            rabbitmq: Mutex::new(rabbitmq),
            services: Vec::new(),
            receiver,
            endpoints: Vec::new(),
            guests: std::sync::Mutex::default(),
            database_url,
            db: db.map_err(|error| error.to_string())?,
            binary: Binary { amqp_url: door.url(&amqp_url), ..binary.clone() },
            door,
        };
        stack.run(&["migrate"]).await?;
        for endpoint in 0..ENDPOINTS {
            stack.add_endpoint(endpoint).await?;
        }
        for role in [Role::Relay, Role::Worker] {
            let services = (1..=role.count()).map(|number| Arc::new(Service::new(role, number, &binary)));
            stack.services.extend(services);
        }
        Ok(stack)
    }

    /// From now on all connections to the broker are made to one of these.
    pub fn lead_brokers_to(&self, urls: &[String]) {
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        let doors = self.services.iter().map(|service| service.proxy(Server::Broker)).chain([&self.door]);
        doors.for_each(|door| door.lead_to(&urls));
    }

    pub async fn start_services(&self, role: Role) {
        for service in self.services.iter().filter(|service| service.role == role) {
            service.start().await;
        }
    }

    async fn add_endpoint(&mut self, endpoint: usize) -> Result<(), String> {
        let types: Vec<&str> =
            TYPES.iter().filter(|(_, takers)| takers[endpoint]).map(|(event_type, _)| *event_type).collect();
        let (url, types) = (self.receiver.url(endpoint), types.join(","));
        let (id, secret) = process::add_endpoint(&self.binary, TENANT, &url, &["--event-types", &types]).await?;
        self.endpoints.push(id);
        self.receiver.verify_with(endpoint, &secret);
        Ok(())
    }

    pub fn endpoint(&self, number: usize) -> Uuid {
        self.endpoints[number]
    }

    /// Another endpoint that posts to where this one does.
    pub fn add_guest(&self, id: Uuid, number: usize) {
        self.guests.lock().unwrap_or_else(PoisonError::into_inner).insert(id, number);
    }

    /// Its number at the receiver.
    pub fn number_of(&self, endpoint: Uuid) -> Option<usize> {
        let permanent = self.endpoints.iter().position(|id| *id == endpoint);
        permanent.or_else(|| self.guests.lock().unwrap_or_else(PoisonError::into_inner).get(&endpoint).copied())
    }

    /// A command to its end; what it printed.
    pub async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        process::run(&self.binary, arguments).await
    }

    /// The same of another version, or of this build.
    pub async fn run_as(&self, program: Option<PathBuf>, arguments: &[&str]) -> Result<String, String> {
        process::run(&Binary { program, ..self.binary.clone() }, arguments).await
    }

    /// Looks after the processes: revives those that ended by themselves, and keeps their counters.
    pub async fn look_after(&self) {
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        loop {
            tick.tick().await;
            for service in &self.services {
                service.revive().await;
                service.tally().await;
            }
        }
    }

    pub async fn stop_services(&self) {
        let stopping = self.services.iter().map(|service| async {
            service.tally().await;
            service.stop().await;
        });
        futures_util::future::join_all(stopping).await;
    }

    pub fn total(&self, metric: &str) -> u64 {
        self.services.iter().map(|service| service.total(metric)).sum::<f64>() as u64
    }
}
