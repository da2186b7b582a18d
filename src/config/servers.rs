//! `[database]` and `[broker]`.

use std::time::Duration;

use super::error::ConfigError;
use super::secrets::{self, ServerUrl};
use super::trust;
use super::values::{HOUR, MINUTE, MS, SECOND, Values};
use crate::domain::message::Carried;
use crate::tls::Files;

#[derive(Debug, Clone)]
pub struct Database {
    pub url: Option<ServerUrl>,
    pub tls: Files,
    pub max_connections: u32,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
}

#[derive(Debug, Clone)]
pub struct Broker {
    pub url: Option<ServerUrl>,
    /// Of its management API, for the doctor.
    pub management_url: Option<ServerUrl>,
    pub tls: Files,
    pub prefix: String,
    /// What messages carry of their payload.
    pub payload: Carried,
    pub operation_timeout: Duration,
    pub heartbeat: Duration,
}

impl Database {
    pub(super) fn read(values: &Values) -> Result<Database, ConfigError> {
        Ok(Database {
            url: secrets::database_url(values)?,
            tls: trust::database(values)?,
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
            management_url: secrets::management_url(values)?,
            tls: trust::broker(values)?,
            prefix: prefix(values)?,
            payload: values
                .choice("broker.payload", &[("inline", Carried::Payload), ("reference", Carried::Reference)])?,
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
