//! Connections to the broker beside the publisher's, and queues that are gone.

use crate::broker::connection::Link;
use crate::broker::topology::Topology;
use crate::broker::{BrokerError, Settings, declare};

pub struct Access {
    pub broker: Settings,
    pub topology: Topology,
}

impl Access {
    /// `name` is what the broker's list of connections shows.
    pub async fn open(&self, name: &str) -> Result<Link, BrokerError> {
        Link::open(&self.broker, name).await
    }

    /// A queue that is gone was deleted, or the broker came back empty. PostgreSQL rebuilds what was in it.
    pub async fn declare_again(&self) {
        tracing::warn!("a queue is gone; declaring the topology again");
        tokio::time::sleep(declare::ABSENCE).await;
        let declared = async {
            let link = self.open("posthaste topology").await?;
            let declared = declare::declare(&link, &self.topology).await;
            link.close().await;
            declared
        };
        if let Err(error) = declared.await {
            tracing::warn!(%error, "cannot declare the topology; a relay or `posthaste topology declare` must");
        }
    }
}
