//! Declaring the topology in the broker, and remembering it in the database.

use crate::broker;
use crate::broker::connection::Link;
use crate::broker::declare::{self, DeclareError};
use crate::broker::topology::Topology;
use crate::store::{Db, StoreError, delay_queues};

/// Declares the topology and remembers its delay queues. A user without the right to do so, here or there, relies on
/// `posthaste topology declare`.
pub async fn declare(db: &Db, broker: &broker::Settings, topology: &Topology) -> Result<(), DeclareFailure> {
    let link = Link::open(broker, "posthaste topology").await.map_err(DeclareError::from)?;
    let declared = declare::declare(&link, topology).await;
    link.close().await;
    match declared {
        Ok(()) => match delay_queues::remember(db, &topology.delay_queues()).await {
            Err(error) if error.is_denied() => {
                tracing::info!("this database user may not remember queues; relying on `posthaste topology declare`");
                Ok(())
            }
            remembered => Ok(remembered?),
        },
        Err(DeclareError::Broker(error)) if error.is_access_refused() => {
            tracing::info!("this broker user may not declare; relying on `posthaste topology declare`");
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum DeclareFailure {
    #[error(transparent)]
    Declare(#[from] DeclareError),
    #[error(transparent)]
    Store(#[from] StoreError),
}
