//! The configuration: read from flags, environment and file, validated once into plain values that are ready to use.
//!
//! `config/posthaste.toml` is compiled in and is the lowest layer. So it is at once the documentation of every key, the
//! place of every default, and the list of the keys and types that the other layers are checked against.

mod error;
mod layers;
mod operation;
mod pipeline;
mod retention;
mod retry;
mod secrets;
mod servers;
mod shape;
#[cfg(test)]
mod tests;
mod trust;
mod values;
mod variables;

pub use error::ConfigError;
pub use layers::{FALLBACK_FILE, Overrides, REFERENCE, Sources};
pub use operation::{Circuit, LogFormat, Operations, Reconcile, Shutdown, Telemetry};
pub use pipeline::{Delivery, Relay, Wake, Worker};
pub use retention::Retention;
pub use secrets::{EncryptionKey, ServerUrl};
pub use servers::{Broker, Database};
pub use values::duration as parse_duration;

use crate::domain::backoff::Policies;
use values::Values;

/// A complete and valid configuration.
#[derive(Debug, Clone)]
pub struct Config {
    pub database: Database,
    pub broker: Broker,
    pub relay: Relay,
    pub worker: Worker,
    pub delivery: Delivery,
    pub retry: Policies,
    pub circuit: Circuit,
    pub reconcile: Reconcile,
    pub operations: Operations,
    pub telemetry: Telemetry,
    pub retention: Retention,
    pub shutdown: Shutdown,
    /// What was accepted in another form than written; to be logged once logging works.
    pub warnings: Vec<String>,
    encryption_keys: Vec<EncryptionKey>,
}

impl Config {
    /// Reads the process's environment and files.
    pub fn load(overrides: &Overrides) -> Result<Config, ConfigError> {
        Config::from_sources(&Sources::of_process(overrides.clone()))
    }

    pub fn from_sources(sources: &Sources) -> Result<Config, ConfigError> {
        let values = Values::new(layers::merge(sources)?);
        let mut warnings = Vec::new();
        let retention = Retention::read(&values)?;
        let delivery = Delivery::read(&values, &retention)?;
        let retry = retry::read(&values, &mut warnings)?;
        retention.warn(&retry, (delivery.timeout, delivery.held_ttl), &mut warnings);
        Ok(Config {
            database: Database::read(&values)?,
            broker: Broker::read(&values)?,
            relay: Relay::read(&values)?,
            worker: Worker::read(&values, &mut warnings)?,
            delivery,
            retry,
            circuit: Circuit::read(&values)?,
            reconcile: Reconcile::read(&values)?,
            operations: Operations::read(&values)?,
            telemetry: Telemetry::read(&values)?,
            retention,
            shutdown: Shutdown::read(&values)?,
            encryption_keys: secrets::encryption_keys(&values)?,
            warnings,
        })
    }

    pub fn database_url(&self) -> Result<&ServerUrl, ConfigError> {
        let fix = "pass --database-url, or set DATABASE_URL, for example postgres://user:password@localhost/posthaste";
        self.database.url.as_ref().ok_or(ConfigError::Missing { key: "database.url", fix })
    }

    pub fn amqp_url(&self) -> Result<&ServerUrl, ConfigError> {
        let fix = "pass --amqp-url, or set AMQP_URL, for example amqp://guest:guest@localhost:5672";
        self.broker.url.as_ref().ok_or(ConfigError::Missing { key: "broker.url", fix })
    }

    /// The first one, which is to seal, and the others, which open.
    pub fn encryption_keys(&self) -> Result<(&EncryptionKey, &[EncryptionKey]), ConfigError> {
        let fix = "make one with `posthaste keygen` and set it as POSTHASTE_SECURITY__ENCRYPTION_KEY";
        self.encryption_keys.split_first().ok_or(ConfigError::Missing { key: "security.encryption_key", fix })
    }
}
