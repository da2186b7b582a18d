//! Reconcile: what the broker has lost is published again, from PostgreSQL, at a bounded rate.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::limits::Grace;
use super::publish::Publishing;
use super::release;
use crate::domain::reconcile;
use crate::domain::work_queue::WorkQueue;
use crate::store::reconcile::Proofs;
use crate::store::{Db, StoreError, endpoints, markers, reconcile as lost, relay_batches};
use crate::telemetry::metrics;

/// Deliveries republished with one statement.
const BATCH: i64 = 500;
/// A search that finds nothing is repeated after twenty times what it took, or at the reconcile interval. The shorter one of
/// the last two counts: one that was held up, say for a connection, says nothing about what a search costs.
const DUTY: u32 = 20;

/// What markers prove at this moment.
pub async fn proofs(db: &Db, grace: Grace) -> Result<Proofs, StoreError> {
    let longest = endpoints::longest_timeout(db).await?.map_or(grace.timeout, |longest| longest.max(grace.timeout));
    let grace = reconcile::grace(grace.configured, longest);
    Ok(Proofs {
        retry: markers::proof(db, WorkQueue::Retry.key(), grace).await?,
        deliver: markers::proof(db, WorkQueue::Deliver.key(), grace).await?,
    })
}

pub(super) struct Reconciler {
    publishing: Arc<Publishing>,
    grace: Grace,
    every: Duration,
    next: Option<Instant>,
    /// How long the last search took.
    took: Duration,
    /// A statement failed, and may have done its work all the same.
    unknown: bool,
    last_prune: Option<Instant>,
}

impl Reconciler {
    pub fn new(publishing: Arc<Publishing>, grace: Grace, every: Duration) -> Reconciler {
        Reconciler { publishing, grace, every, next: None, took: Duration::ZERO, unknown: false, last_prune: None }
    }

    /// One batch at most, so that a rebuild does not flood the workers.
    pub async fn step(&mut self, relay: i64, stop: &CancellationToken) -> Result<(), StoreError> {
        if self.next.is_some_and(|next| Instant::now() < next) {
            return Ok(());
        }
        if self.unknown {
            release::recover(&self.publishing, relay, stop).await?;
        }
        let began = Instant::now();
        self.unknown = true;
        let proofs = proofs(&self.publishing.db, self.grace).await?;
        let found = batch(&self.publishing, relay, proofs).await?;
        self.unknown = false;
        let took = began.elapsed();
        let pause = if found == 0 { self.every.max(took.min(self.took) * DUTY) } else { Duration::ZERO };
        self.took = took;
        self.next = Some(Instant::now() + pause);
        self.prune().await
    }

    async fn prune(&mut self) -> Result<(), StoreError> {
        const EVERY: Duration = Duration::from_secs(60);
        const KEEP: Duration = Duration::from_secs(3600);
        if self.last_prune.is_none_or(|last| last.elapsed() >= EVERY) {
            markers::prune(&self.publishing.db, KEEP).await?;
            self.last_prune = Some(Instant::now());
        }
        Ok(())
    }
}

async fn batch(publishing: &Publishing, relay: i64, proofs: Proofs) -> Result<usize, StoreError> {
    let batch = lost::republish(&publishing.db, relay, proofs, BATCH).await?;
    let found = batch.messages.len();
    if let Some(id) = batch.id {
        tracing::warn!(deliveries = found, "the broker has lost messages; publishing them again");
        metrics::lost_and_republished(found as u64);
        publishing.due(batch.messages).await;
        relay_batches::unlist(&publishing.db, &[id]).await?;
    }
    Ok(found)
}
