//! The sections of the configuration, one struct for each concern, and the limits of every key.

use std::net::SocketAddr;
use std::time::Duration;

use figment::value::Value;
use ipnet::IpNet;
use tracing_subscriber::EnvFilter;

use super::values::{DAY, HOUR, MINUTE, MS, SECOND, Values};
use super::{ConfigError, ServerUrl, secrets};

#[derive(Debug, Clone)]
pub struct Database {
    pub url: Option<ServerUrl>,
    pub max_connections: u32,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
}

#[derive(Debug, Clone)]
pub struct Broker {
    pub url: Option<ServerUrl>,
    pub prefix: String,
    pub operation_timeout: Duration,
    pub heartbeat: Duration,
}

#[derive(Debug, Clone)]
pub struct Relay {
    pub batch_size: u32,
    pub poll_interval: Duration,
    pub wake: Wake,
    /// Held deliveries released for one endpoint, per second.
    pub release_rate: u32,
}

/// How a relay that sleeps learns of new events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    Listen,
    Poll,
}

#[derive(Debug, Clone)]
pub struct Worker {
    pub concurrency: usize,
    pub prefetch: u16,
}

#[derive(Debug, Clone)]
pub struct Delivery {
    pub connect_timeout: Duration,
    pub timeout: Duration,
    pub allow_cidrs: Vec<IpNet>,
    pub max_response_bytes: usize,
    pub max_payload_bytes: usize,
    /// The default share of one endpoint.
    pub max_in_flight: usize,
}

#[derive(Debug, Clone)]
pub struct Circuit {
    pub enabled: bool,
    pub min_failures: u32,
    pub min_duration: Duration,
    pub failure_share: f64,
    pub cooldown: Duration,
}

#[derive(Debug, Clone)]
pub struct Reconcile {
    pub interval: Duration,
    pub grace: Duration,
}

#[derive(Debug, Clone)]
pub struct Telemetry {
    /// `None` turns the server off.
    pub listen: Option<SocketAddr>,
    pub log_format: LogFormat,
    pub log_level: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, Clone)]
pub struct Retention {
    pub days: u32,
    pub idempotency_keys: Duration,
}

#[derive(Debug, Clone)]
pub struct Shutdown {
    pub grace: Duration,
}

impl Database {
    pub(super) fn read(values: &Values) -> Result<Database, ConfigError> {
        Ok(Database {
            url: secrets::database_url(values)?,
            max_connections: values.integer("database.max_connections", 1..=1000)?,
            connect_timeout: values.duration("database.connect_timeout", 100 * MS..=5 * MINUTE)?,
            statement_timeout: values.duration("database.statement_timeout", 100 * MS..=HOUR)?,
        })
    }
}

impl Broker {
    pub(super) fn read(values: &Values) -> Result<Broker, ConfigError> {
        Ok(Broker {
            url: secrets::amqp_url(values)?,
            prefix: prefix(values)?,
            operation_timeout: values.duration("broker.operation_timeout", 100 * MS..=5 * MINUTE)?,
            heartbeat: heartbeat(values)?,
        })
    }
}

fn prefix(values: &Values) -> Result<String, ConfigError> {
    let prefix = values.text("broker.prefix")?;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    if (1..=64).contains(&prefix.len()) && prefix.bytes().all(allowed) {
        return Ok(prefix.to_owned());
    }
    let problem = "is not a prefix for queue names; use 1 to 64 letters, digits, '.', '_' and '-'";
    Err(values.invalid("broker.prefix", problem))
}

/// AMQP counts heartbeats in seconds.
fn heartbeat(values: &Values) -> Result<Duration, ConfigError> {
    let key = "broker.heartbeat";
    let heartbeat = values.duration(key, SECOND..=10 * MINUTE)?;
    if heartbeat.subsec_nanos() == 0 {
        return Ok(heartbeat);
    }
    Err(values.invalid(key, "is not a whole number of seconds; write it like \"10s\""))
}

impl Relay {
    pub(super) fn read(values: &Values) -> Result<Relay, ConfigError> {
        Ok(Relay {
            batch_size: values.integer("relay.batch_size", 1..=1000)?,
            poll_interval: values.duration("relay.poll_interval", MS..=10 * SECOND)?,
            wake: choice(values, "relay.wake", &[("listen", Wake::Listen), ("poll", Wake::Poll)])?,
            release_rate: values.integer("relay.release_rate", 1..=100_000)?,
        })
    }
}

impl Worker {
    pub(super) fn read(values: &Values, warnings: &mut Vec<String>) -> Result<Worker, ConfigError> {
        let concurrency: u16 = values.integer("worker.concurrency", 1..=4096)?;
        let prefetch = match values.integer("worker.prefetch", 0..=65_535)? {
            0 => concurrency * 2,
            prefetch => prefetch,
        };
        if prefetch < concurrency {
            warnings.push(format!(
                "worker.prefetch: {prefetch} is below worker.concurrency, so no more than {prefetch} requests are ever in flight"
            ));
        }
        Ok(Worker { concurrency: concurrency.into(), prefetch })
    }
}

impl Delivery {
    pub(super) fn read(values: &Values) -> Result<Delivery, ConfigError> {
        Ok(Delivery {
            connect_timeout: values.duration("delivery.connect_timeout", MS..=5 * MINUTE)?,
            timeout: values.duration("delivery.timeout", MS..=10 * MINUTE)?,
            allow_cidrs: values.list("delivery.allow_cidrs", cidr)?,
            max_response_bytes: values.integer("delivery.max_response_bytes", 0..=1_048_576)?,
            max_payload_bytes: values.integer("delivery.max_payload_bytes", 1..=16_777_216)?,
            max_in_flight: values.integer("delivery.max_in_flight", 1..=4096)?,
        })
    }
}

fn cidr(item: &Value) -> Result<IpNet, String> {
    let text = item.as_str().unwrap_or_default();
    text.parse().map_err(|_| format!("('{text}') is not a network; write it like \"10.0.0.0/8\" or \"127.0.0.1/32\""))
}

impl Circuit {
    pub(super) fn read(values: &Values) -> Result<Circuit, ConfigError> {
        Ok(Circuit {
            enabled: values.flag("circuit.enabled")?,
            min_failures: values.integer("circuit.min_failures", 1..=100_000)?,
            min_duration: values.duration("circuit.min_duration", Duration::ZERO..=HOUR)?,
            failure_share: values.ratio("circuit.failure_share", 0.01..=1.0)?,
            cooldown: values.duration("circuit.cooldown", 100 * MS..=DAY)?,
        })
    }
}

impl Reconcile {
    pub(super) fn read(values: &Values) -> Result<Reconcile, ConfigError> {
        Ok(Reconcile {
            interval: values.duration("reconcile.interval", 100 * MS..=HOUR)?,
            grace: values.duration("reconcile.grace", Duration::ZERO..=HOUR)?,
        })
    }
}

impl Telemetry {
    pub(super) fn read(values: &Values) -> Result<Telemetry, ConfigError> {
        let formats = [("human", LogFormat::Human), ("json", LogFormat::Json)];
        Ok(Telemetry {
            listen: listen(values)?,
            log_format: choice(values, "telemetry.log_format", &formats)?,
            log_level: log_level(values)?,
        })
    }
}

fn listen(values: &Values) -> Result<Option<SocketAddr>, ConfigError> {
    let key = "telemetry.listen";
    let text = values.text(key)?;
    if text.is_empty() {
        return Ok(None);
    }
    let problem = "is not an address and a port; write it like \"127.0.0.1:9464\", or \"\" for no server";
    text.parse().map(Some).map_err(|_| values.invalid(key, problem))
}

fn log_level(values: &Values) -> Result<String, ConfigError> {
    let key = "telemetry.log_level";
    let text = values.text(key)?;
    let problem =
        "is not a filter; use error, warn, info, debug or trace, or targets such as \"info,posthaste::relay=debug\"";
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|_| values.invalid(key, problem))
}

impl Retention {
    pub(super) fn read(values: &Values) -> Result<Retention, ConfigError> {
        Ok(Retention {
            days: values.integer("retention.days", 1..=3650)?,
            idempotency_keys: values.duration("retention.idempotency_keys", SECOND..=365 * DAY)?,
        })
    }
}

impl Shutdown {
    pub(super) fn read(values: &Values) -> Result<Shutdown, ConfigError> {
        Ok(Shutdown { grace: values.duration("shutdown.grace", Duration::ZERO..=HOUR)? })
    }
}

fn choice<T: Copy>(values: &Values, key: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
    let text = values.text(key)?;
    let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
    found.ok_or_else(|| values.invalid(key, format!("is '{text}'; use {}", names.join(" or "))))
}
