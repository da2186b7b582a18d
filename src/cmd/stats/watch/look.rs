//! One look at both servers.

use std::time::Instant;

use chrono::{DateTime, Utc};

use super::super::super::compose;
use super::super::super::failure::Failure;
use crate::broker::BrokerError;
use crate::broker::depth::Depths;
use crate::broker::topology::Topology;
use crate::config::Config;
use crate::domain::backoff::Policies;
use crate::store::outbox::{self, Backlog};
use crate::store::watch::{self, Counters, Failing, Recent, Unfinished};
use crate::store::{Db, StoreError};

/// Endpoints listed, those with the most failures first.
const FAILING: i64 = 5;

pub struct Look {
    pub at: DateTime<Utc>,
    pub instant: Instant,
    pub counters: Counters,
    pub backlog: Backlog,
    pub unfinished: Unfinished,
    pub recent: Recent,
    pub latencies: Vec<(String, f64)>,
    pub failing: Vec<Failing>,
    /// None: the broker does not answer.
    pub depths: Option<Ready>,
}

/// Messages ready in the queues.
#[derive(Debug, Clone, Default)]
pub struct Ready {
    pub work: Vec<(&'static str, u32)>,
    /// By the base delay of the tier, in milliseconds.
    pub tiers: Vec<(u64, u64)>,
}

pub struct Eye {
    db: Db,
    depths: Option<Depths>,
    topology: Topology,
    policies: Policies,
}

impl Eye {
    /// Without a broker in the configuration only the database is watched.
    pub fn new(config: &Config) -> Result<Eye, Failure> {
        Ok(Eye {
            db: compose::command_db(config)?,
            depths: compose::broker_settings(config).ok().map(Depths::new),
            topology: compose::topology(config),
            policies: config.retry.clone(),
        })
    }

    pub async fn look(&mut self) -> Result<Look, StoreError> {
        let (counters, instant) = (watch::counters(&self.db).await?, Instant::now());
        Ok(Look {
            at: Utc::now(),
            instant,
            counters,
            backlog: outbox::backlog(&self.db).await?,
            unfinished: watch::unfinished(&self.db).await?,
            recent: watch::recent(&self.db).await?,
            latencies: watch::latencies(&self.db).await?,
            failing: watch::failing(&self.db, FAILING).await?,
            depths: self.ready().await,
        })
    }

    async fn ready(&mut self) -> Option<Ready> {
        let depths = self.depths.as_mut()?;
        match read(depths, &self.topology, &self.policies).await {
            Ok(ready) => Some(ready),
            Err(error) => {
                tracing::debug!(%error, "cannot read the depths of the queues");
                None
            }
        }
    }

    pub async fn close(&mut self) {
        if let Some(depths) = &mut self.depths {
            depths.close().await;
        }
        self.db.close().await;
    }
}

async fn read(depths: &mut Depths, topology: &Topology, policies: &Policies) -> Result<Ready, BrokerError> {
    let names = &topology.names;
    let mut ready = Ready::default();
    for (label, queue) in [("deliver", names.deliver_queue()), ("retry", names.retry_queue()), ("dead", names.dead())] {
        ready.work.push((label, depths.ready(&queue).await?));
    }
    let mut tiers = std::collections::BTreeMap::new();
    for (queue, ttl_ms) in topology.delay_queues() {
        let tier = policies.tier_of(ttl_ms).unwrap_or(ttl_ms);
        *tiers.entry(tier).or_insert(0) += u64::from(depths.ready(&queue).await?);
    }
    ready.tiers = tiers.into_iter().collect();
    Ok(ready)
}
