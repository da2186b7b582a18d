//! From the configuration to the plain arguments that the adapters take.

use std::sync::Arc;
use std::time::Duration;

use super::failure::Failure;
use crate::broker;
use crate::broker::topology::Topology;
use crate::config::{Config, LogFormat, Overrides};
use crate::domain::backoff::Policies;
use crate::domain::circuit;
use crate::domain::message::Carried;
use crate::domain::sealing::{Key, Keyring};
use crate::http::client;
use crate::http::ports::Ports;
use crate::http::rules::Rules;
use crate::relay::Grace;
use crate::store::claim::Ceilings;
use crate::store::{self, Db};
use crate::telemetry::logging;

/// Reads the configuration and starts logging; warnings about it come first.
pub fn load(overrides: &Overrides) -> Result<Config, Failure> {
    let config = Config::load(overrides)?;
    let json = config.telemetry.log_format == LogFormat::Json;
    logging::init(json, &config.telemetry.log_level).map_err(|error| Failure::Usage(error.to_string()))?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    Ok(config)
}

pub fn store_options(config: &Config, name: &str) -> Result<store::Options, Failure> {
    Ok(store::Options {
        url: config.database_url()?.expose().to_owned().into(),
        found: store::Found::default(),
        tls: config.database.tls.clone(),
        max_connections: config.database.max_connections,
        connect_timeout: config.database.connect_timeout,
        statement_timeout: config.database.statement_timeout,
        lock_timeout: config.database.statement_timeout,
        application_name: name.to_owned(),
        service: false,
        asynchronous_commit: false,
        by_reference: config.broker.payload == Carried::Reference,
    })
}

/// For commands: the planner may read whole tables.
pub fn command_db(config: &Config) -> Result<Db, Failure> {
    Ok(Db::new(&store_options(config, "posthaste")?)?)
}

/// For the relay, the worker and requeue: plans must not depend on how full a table was when they were made.
pub fn service_options(config: &Config, name: &str) -> Result<store::Options, Failure> {
    Ok(store::Options { service: true, ..store_options(config, name)? })
}

/// For the worker, which settles many deliveries with one statement: a row that somebody keeps locked is to be found soon.
pub fn worker_options(config: &Config) -> Result<store::Options, Failure> {
    const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
    let options = service_options(config, "posthaste worker")?;
    Ok(store::Options { lock_timeout: LOCK_TIMEOUT.min(options.statement_timeout), ..options })
}

pub fn broker_settings(config: &Config) -> Result<broker::Settings, Failure> {
    Ok(broker::Settings {
        url: config.amqp_url()?.expose().to_owned().into(),
        tls: config.broker.tls.clone(),
        carried: config.broker.payload,
        operation_timeout: config.broker.operation_timeout,
        heartbeat: config.broker.heartbeat,
    })
}

pub fn topology(config: &Config) -> Topology {
    Topology::new(&config.broker.prefix, config.retry.delays())
}

pub fn keys(config: &Config) -> Result<Keyring, Failure> {
    let (first, others) = config.encryption_keys()?;
    let others = others.iter().map(|key| Key::from_bytes(*key.expose())).collect();
    Ok(Keyring::new(Key::from_bytes(*first.expose()), others))
}

pub fn ceilings(policies: &Policies) -> Ceilings {
    let (names, values) = policies.named().map(|policy| (policy.name.clone(), policy.max_attempts())).unzip();
    Ceilings { default: policies.default_policy().max_attempts(), names, values }
}

pub fn reconcile_grace(config: &Config) -> Grace {
    Grace { configured: config.reconcile.grace, timeout: config.delivery.timeout }
}

pub fn circuit_rules(config: &Config) -> circuit::Rules {
    circuit::Rules {
        enabled: config.circuit.enabled,
        min_failures: config.circuit.min_failures,
        min_duration_ms: config.circuit.min_duration.as_millis() as u64,
        failure_share: config.circuit.failure_share,
        cooldown_ms: config.circuit.cooldown.as_millis() as u64,
        max_cooldown_ms: config.circuit.max_cooldown.as_millis() as u64,
    }
}

pub fn policies(config: &Config) -> Arc<Policies> {
    Arc::new(config.retry.clone())
}

pub fn http_options(config: &Config) -> client::Options {
    client::Options {
        connect_timeout: config.delivery.connect_timeout,
        allow_cidrs: config.delivery.allow_cidrs.clone(),
        proxy: config.delivery.proxy.as_ref().map(|url| url.expose().to_owned().into()),
        max_response_bytes: config.delivery.max_response_bytes,
        max_idle_per_host: config.delivery.max_in_flight,
        max_kept_hosts: client::MAX_KEPT_HOSTS,
        user_agent: concat!("posthaste/", env!("CARGO_PKG_VERSION")).to_owned(),
    }
}

pub fn url_rules(config: &Config) -> Rules {
    Rules { require_https: config.delivery.require_https, ports: Ports::only(config.delivery.allow_ports.clone()) }
}

pub fn http_client(config: &Config) -> Result<client::Client, Failure> {
    client::Client::new(http_options(config)).map_err(|error| Failure::Failed(error.to_string()))
}
