//! Why a command that replays could not go on.

use thiserror::Error;

use crate::broker::BrokerError;
use crate::broker::published::PublishError;
use crate::store::StoreError;

#[derive(Debug, Error)]
pub enum RequeueError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("publishing failed: {0}")]
    Publish(#[from] PublishError),
}
