//! What became of a message that was published.

use thiserror::Error;

use super::BrokerError;

pub type Published = Result<(), PublishError>;

#[derive(Debug, Error)]
pub enum PublishError {
    /// No queue is bound for the message: the topology is incomplete.
    #[error("the broker returned the message: {0}")]
    Returned(String),
    /// The queue refused it, for example because it is full.
    #[error("the broker refused the message")]
    Nacked,
    /// The broker closed the channel over this message or one beside it, for example because it is too large.
    #[error("{0}")]
    Refused(BrokerError),
    /// Nothing is known: the connection broke or no confirm came in time.
    #[error("{0}")]
    Lost(BrokerError),
}
