//! RabbitMQ: moves the work. The only place that names lapin.
//!
//! Publishing and consuming use separate connections, because a broker under an alarm stops reading a publishing socket.
//! Every call has a time-out: after a crash of the broker a call may otherwise never return.

use std::time::Duration;

use secrecy::SecretString;
use thiserror::Error;

use crate::domain::message::Carried;
use crate::tls;

pub mod connection;
pub mod consumer;
pub mod dead_letters;
pub mod declare;
pub mod depth;
mod encrypted;
pub mod greeting;
pub mod management;
mod pipeline;
pub mod probe;
pub mod published;
pub mod publisher;
pub mod silence;
pub mod topology;
pub mod unconfirmed;
pub mod users;
pub mod wire;

#[derive(Debug, Clone)]
pub struct Settings {
    pub url: SecretString,
    /// For `amqps`.
    pub tls: tls::Files,
    /// What published messages carry of their payload.
    pub carried: Carried,
    pub operation_timeout: Duration,
    pub heartbeat: Duration,
}

#[derive(Debug, Error)]
pub enum BrokerError {
    #[error("broker: no answer to {operation} within {limit:?}")]
    TimedOut { operation: &'static str, limit: Duration },
    /// The connection or the channel is gone; nothing is known about what was under way.
    #[error("broker unavailable: {0}")]
    Unavailable(String),
    /// The broker refused the operation and closed the channel. The text is the broker's own.
    #[error("broker refused: {text} (reply code {code})")]
    Refused { code: u16, text: String },
    #[error("broker.url: {0}")]
    Url(String),
}

pub type Result<T> = std::result::Result<T, BrokerError>;

impl BrokerError {
    pub fn code(&self) -> Option<u16> {
        match self {
            BrokerError::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    pub fn is_access_refused(&self) -> bool {
        self.code() == Some(403)
    }
}

impl From<lapin::Error> for BrokerError {
    fn from(error: lapin::Error) -> Self {
        match error.kind() {
            lapin::ErrorKind::ProtocolError(amqp) if amqp.get_id() != 320 => {
                BrokerError::Refused { code: amqp.get_id(), text: amqp.get_message().to_string() }
            }
            lapin::ErrorKind::IOError(io) => {
                BrokerError::Unavailable(tls::explain(&**io, "broker").unwrap_or_else(|| error.to_string()))
            }
            _ => BrokerError::Unavailable(error.to_string()),
        }
    }
}

/// Every wait for the broker goes through here.
pub(crate) async fn within<T>(
    limit: Duration,
    operation: &'static str,
    future: impl Future<Output = lapin::Result<T>>,
) -> Result<T> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => Ok(result?),
        Err(_) => Err(BrokerError::TimedOut { operation, limit }),
    }
}
