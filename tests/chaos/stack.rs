//! Everything that a run consists of: servers, processes, endpoints.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::binary::{Settings, command, output};
use crate::kind::Role;
use crate::ledger::{Clock, Ledger, TENANT, TYPES};
use crate::postgres::{self, Postgres};
use crate::producers::Pause;
use crate::rabbitmq::{self, RabbitMq};
use crate::receiver::Receiver;
use crate::schedule::{ENDPOINTS, RELAYS, WORKERS};
use crate::service::Service;

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
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(60);

pub struct Stack {
    pub dir: PathBuf,
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
    amqp_url: String,
    settings: Settings,
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

impl Stack {
    /// Servers, receiver and endpoints are there; the processes are not started yet.
    pub async fn start(
        dir: &Path,
        settings: Settings,
        postgres_options: &'static [&'static str],
    ) -> Result<Stack, String> {
        let clock = Clock::start();
        let (postgres, rabbitmq) =
            tokio::try_join!(Postgres::create(dir, postgres_options), RabbitMq::create(dir, None))?;
        let ports = (postgres.port, rabbitmq.port);
        let database_url = postgres::url(ports.0);
        let db = PgPoolOptions::new().max_connections(4).test_before_acquire(true).connect_lazy(&database_url);
        let receiver = Receiver::start(clock, WORK_MS).await.map_err(|error| error.to_string())?;
        let mut stack = Stack {
            dir: dir.to_owned(),
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
            amqp_url: rabbitmq::url(ports.1),
            settings,
        };
        stack.run(&["migrate"]).await?;
        for endpoint in 0..ENDPOINTS {
            stack.add_endpoint(endpoint).await?;
        }
        for (role, count) in [(Role::Relay, RELAYS), (Role::Worker, WORKERS)] {
            for number in 1..=count {
                let service = Service::new(role, number, ports, &stack.settings, &stack.dir).await;
                stack.services.push(Arc::new(service.map_err(|error| error.to_string())?));
            }
        }
        Ok(stack)
    }

    pub async fn start_services(&self, role: Role) {
        for service in self.services.iter().filter(|service| service.role == role) {
            service.start().await;
        }
    }

    async fn add_endpoint(&mut self, endpoint: usize) -> Result<(), String> {
        let types: Vec<&str> =
            TYPES.iter().filter(|(_, takers)| takers[endpoint]).map(|(event_type, _)| *event_type).collect();
        let url = self.receiver.url(endpoint);
        let types = types.join(",");
        let add = ["endpoint", "add", "--json", "--tenant", TENANT, "--url", &url, "--event-types", &types];
        let added = self.run(&add).await?;
        let added: Value = serde_json::from_str(&added).map_err(|error| error.to_string())?;
        let id = added["id"].as_str().and_then(|id| id.parse().ok()).ok_or("an endpoint without an id")?;
        self.endpoints.push(id);
        self.receiver.verify_with(endpoint, added["secret"].as_str().unwrap_or_default());
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
        let urls = (self.database_url.clone(), self.amqp_url.clone());
        output(command(arguments, &urls, &self.settings, &self.dir), COMMAND).await
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
