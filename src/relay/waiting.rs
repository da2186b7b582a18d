//! Retries that wait in the broker, by tier. The relay that leads counts them, and nobody else: there may be 200 delay queues.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::broker::Settings;
use crate::broker::depth::Depths;
use crate::domain::backoff::Policies;
use crate::store::{Db, StoreError, delay_queues};
use crate::telemetry::metrics;

pub(super) const TICK: Duration = Duration::from_secs(10);
/// Delay queues of older schedules are counted too, as long as they exist.
const MOST: usize = 400;

type Counts = BTreeMap<Option<u64>, u64>;

pub(super) struct Waiting {
    db: Db,
    /// Of the delay queues.
    prefix: String,
    policies: Arc<Policies>,
    depths: Depths,
    shown: Counts,
}

impl Waiting {
    pub fn new(db: Db, broker: Settings, prefix: &str, policies: Arc<Policies>) -> Waiting {
        Waiting { db, prefix: prefix.to_owned(), policies, depths: Depths::new(broker), shown: Counts::new() }
    }

    pub async fn step(&mut self) -> Result<(), StoreError> {
        let known = delay_queues::known(&self.db, &self.prefix).await?;
        // A tier without a message is 0, not missing.
        let mut counts: Counts = self.policies.delays().iter().map(|ms| (self.policies.tier_of(ms), 0)).collect();
        for queue in known.iter().take(MOST) {
            let tier = self.policies.tier_of(queue.ttl_ms.max(0).unsigned_abs());
            match self.depths.ready(&queue.name).await {
                Ok(messages) => *counts.entry(tier).or_default() += u64::from(messages),
                Err(error) => {
                    tracing::debug!(%error, "cannot count the retries that wait in delay queues");
                    return Ok(());
                }
            }
        }
        self.show(counts);
        Ok(())
    }

    fn show(&mut self, counts: Counts) {
        let gone = self.shown.keys().filter(|tier| !counts.contains_key(tier)).map(|tier| (*tier, 0));
        for (tier, messages) in gone.chain(counts.iter().map(|(tier, messages)| (*tier, *messages))) {
            metrics::retries_waiting(tier.map(Duration::from_millis), messages);
        }
        self.shown = counts;
    }
}

/// Another relay leads from now on, and says what it counts.
impl Drop for Waiting {
    fn drop(&mut self) {
        self.show(Counts::new());
    }
}
