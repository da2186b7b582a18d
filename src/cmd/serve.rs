//! `run`, `relay` and `worker`: services that live until a signal.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::failure::{Failure, Outcome};
use super::traces::Traces;
use super::{compose, keys, open_files, public_keys};
use crate::config::{Config, Wake};
use crate::domain::places::released;
use crate::lifecycle::{EXIT_FORCED, Shutdown, signals};
use crate::reconnect::Backoff;
use crate::store::{Db, Options, StoreError, migrate, settings};
use crate::telemetry::logging;
use crate::telemetry::readiness::Readiness;
use crate::telemetry::server::{self, StartError};
use crate::{broker, relay, worker};

#[derive(Debug, Clone, Copy)]
pub struct Roles {
    relay: bool,
    worker: bool,
}

impl Roles {
    pub const BOTH: Roles = Roles { relay: true, worker: true };
    pub const RELAY: Roles = Roles { relay: true, worker: false };
    pub const WORKER: Roles = Roles { relay: false, worker: true };
}

pub async fn run(config: &Config, roles: Roles) -> Outcome {
    // Everything that the configuration can be wrong about is found before anything connects.
    let parts = Parts::new(config, roles)?;
    let shutdown = Shutdown::new();
    let signals = signals().map_err(|error| Failure::Failed(error.to_string()))?;
    shutdown.on_signals(signals, || {
        logging::flush();
        std::process::exit(EXIT_FORCED)
    });
    let server = server::start(config.telemetry.listen, parts.readiness.clone(), public_keys::routes(config)?);
    let server = server.await.map_err(|error| match error {
        StartError::Listen(_) => Failure::Usage(error.to_string()),
        StartError::Recorder(_) => Failure::Failed(error.to_string()),
    })?;
    if roles.worker {
        open_files::warn(config);
    }
    introduce(config);
    let traces = Traces::start(config)?;
    let readiness = parts.readiness.clone();
    let outcome = serve(config, parts, roles, &shutdown).await;
    readiness.not_ready("process", "stopping");
    traces.finish().await;
    if let Some(server) = server {
        server.stop().await;
    }
    outcome
}

struct Parts {
    service: Options,
    broker: broker::Settings,
    topology: broker::topology::Topology,
    readiness: Readiness,
    relay: Option<relay::Parts>,
    worker: Option<worker::Parts>,
}

impl Parts {
    fn new(config: &Config, roles: Roles) -> Result<Parts, Failure> {
        let readiness = Readiness::new(&["database", "broker"]);
        let service = compose::service_options(config, "posthaste")?;
        let broker = compose::broker_settings(config)?;
        let topology = compose::topology(config);
        let relay = roles.relay.then(|| relay_parts(config, &readiness)).transpose()?;
        let worker = roles.worker.then(|| worker_parts(config, &readiness)).transpose()?;
        Ok(Parts { service, broker, topology, readiness, relay, worker })
    }
}

fn relay_parts(config: &Config, readiness: &Readiness) -> Result<relay::Parts, Failure> {
    let session = compose::service_options(config, "posthaste relay session")?;
    let claim = Options { asynchronous_commit: true, ..compose::service_options(config, "posthaste relay claim")? };
    Ok(relay::Parts {
        db: Db::new(&compose::service_options(config, "posthaste relay")?)?,
        claim_db: Db::new(&claim)?,
        session,
        broker: compose::broker_settings(config)?,
        topology: compose::topology(config),
        policies: compose::policies(config),
        ceilings: compose::ceilings(&config.retry),
        limits: relay::Limits {
            batch_size: config.relay.batch_size,
            poll_interval: config.relay.poll_interval,
            listen: config.relay.wake == Wake::Listen,
            circuits: config.circuit.enabled,
            disable_after: config.circuit.disable_after,
            held_ttl: config.delivery.held_ttl,
            retention: config.retention.rule(),
            max_in_flight: config.delivery.max_in_flight.try_into().unwrap_or(u32::MAX),
            places: released(config.worker.capacity),
            reconcile_interval: config.reconcile.interval,
            grace: compose::reconcile_grace(config),
            // Nobody could see them.
            top_endpoints: config.telemetry.listen.map_or(0, |_| config.telemetry.top_endpoints),
        },
        readiness: readiness.clone(),
    })
}

fn worker_parts(config: &Config, readiness: &Readiness) -> Result<worker::Parts, Failure> {
    Ok(worker::Parts {
        db: Db::new(&compose::worker_options(config)?)?,
        client: compose::http_client(config)?,
        broker: compose::broker_settings(config)?,
        topology: compose::topology(config),
        policies: compose::policies(config),
        keys: compose::keys(config)?,
        rules: compose::url_rules(config),
        limits: worker::Limits {
            capacity: config.worker.capacity,
            max_in_flight: config.delivery.max_in_flight,
            circuit: compose::circuit_rules(config),
            timeout: config.delivery.timeout,
            log_delivered: config.telemetry.log_delivered,
            listen: config.relay.wake == Wake::Listen,
        },
        name: worker_name(),
        readiness: readiness.clone(),
    })
}

/// Host and process, with a random part: in containers both repeat.
fn worker_name() -> String {
    let host = std::env::var("HOSTNAME").ok().or_else(|| std::fs::read_to_string("/etc/hostname").ok());
    let host = host.as_deref().map_or("worker", str::trim).chars().take(60).collect::<String>();
    format!("{host}-{}-{:04x}", std::process::id(), rand::random::<u16>())
}

/// The schedule, the queues and the worst case derive from the same value, and are said once.
fn introduce(config: &Config) {
    let policies = std::iter::once(config.retry.default_policy()).chain(config.retry.named());
    for policy in policies {
        tracing::info!(
            policy = policy.name,
            schedule_ms = ?policy.schedule_ms().collect::<Vec<_>>(),
            max_attempts = policy.max_attempts(),
            delay_queues = policy.delays_ms().len(),
            budget = policy.budget,
            retries = policy.retries(policy.budget),
            worst_case_to_dead_letter_s = policy.worst_case(policy.budget, config.delivery.timeout).as_secs(),
            worst_case_with_retry_after_s =
                policy.worst_case_when_asked(policy.budget, config.delivery.timeout).as_secs(),
            "retry policy"
        );
    }
}

async fn serve(config: &Config, parts: Parts, roles: Roles, shutdown: &Shutdown) -> Outcome {
    let stop = shutdown.token().clone();
    let db = Db::new(&parts.service)?;
    if !prepare(&db, &parts, &stop).await? {
        return Ok(());
    }
    let abandon = CancellationToken::new();
    let readiness = parts.readiness.clone();
    if let Some(relay) = parts.relay {
        shutdown.spawn_fallible("relay", relay::run(relay, stop.clone(), abandon.clone()));
    }
    if let Some(worker) = parts.worker {
        shutdown.spawn_fallible("worker", worker::run(worker, stop.clone(), abandon.clone()));
    }
    if !roles.relay {
        shutdown.spawn("database watch", watch_database(db, parts.readiness, stop.clone()));
    }
    shutdown.asked().await;
    if shutdown.has_failed() {
        readiness.not_ready("process", "a task failed; stopping");
    }
    let give_up = tokio::spawn(after(config.shutdown.grace, abandon));
    // What is abandoned at the end of the grace period still gets a moment to say so.
    let drained = shutdown.drain(config.shutdown.grace + Duration::from_secs(3)).await;
    give_up.abort();
    if drained.failed.is_empty() {
        tracing::info!("stopped");
        return Ok(());
    }
    Err(Failure::Failed(format!("a task failed: {}", drained.failed.join(", "))))
}

async fn after(grace: Duration, abandon: CancellationToken) {
    tokio::time::sleep(grace).await;
    abandon.cancel();
}

/// Waits for both servers and declares the topology. False: asked to stop before they came.
async fn prepare(db: &Db, parts: &Parts, stop: &CancellationToken) -> Result<bool, Failure> {
    let mut backoff = Backoff::default();
    loop {
        let result = tokio::select! {
            result = prepare_once(db, parts) => result,
            () = stop.cancelled() => return Ok(false),
        };
        match result {
            Ok(()) => return Ok(true),
            Err(failure) if is_final(&failure) => return Err(failure),
            Err(failure) => {
                tracing::warn!(error = %failure, failures = backoff.failures(), "not ready to start; trying again");
                if !backoff.pause_until(stop).await {
                    return Ok(false);
                }
            }
        }
    }
}

async fn prepare_once(db: &Db, parts: &Parts) -> Outcome {
    settings::must_arrive(db, parts.service.by_reference).await?;
    let missing = migrate::missing(db).await?;
    if !missing.is_empty() {
        return Err(Failure::Failed("the schema is not up to date: run `posthaste migrate` first".into()));
    }
    parts.readiness.ready("database");
    relay::declare(db, &parts.broker, &parts.topology).await?;
    if let Some(worker) = &parts.worker {
        keys::check(db, &worker.keys).await?;
    }
    parts.readiness.ready("broker");
    Ok(())
}

/// Waiting helps against a server that is away, not against a wrong schema, a conflicting queue or a refused login.
fn is_final(failure: &Failure) -> bool {
    use crate::broker::BrokerError;
    use crate::broker::declare::DeclareError;
    use crate::relay::DeclareFailure;
    match failure {
        Failure::Declare(DeclareFailure::Declare(DeclareError::Conflict(_))) => true,
        Failure::Declare(DeclareFailure::Declare(DeclareError::Broker(BrokerError::Url(_)))) => true,
        Failure::Store(StoreError::SettingsDropped) => true,
        Failure::Declare(_) | Failure::Store(_) | Failure::Broker(_) => false,
        Failure::Usage(_) | Failure::Config(_) | Failure::Failed(_) => true,
    }
}

/// The relay watches its database itself; a worker that only waits for messages would not notice that it is gone.
async fn watch_database(db: Db, readiness: Readiness, stop: CancellationToken) {
    let mut tick = tokio::time::interval(Duration::from_secs(2));
    let watching = async {
        loop {
            tick.tick().await;
            match db.ping().await {
                Ok(()) => readiness.ready("database"),
                Err(error) => readiness.not_ready("database", error.to_string()),
            }
        }
    };
    tokio::select! {
        () = watching => {}
        () = stop.cancelled() => {}
    }
}
