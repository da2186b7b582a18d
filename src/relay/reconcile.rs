//! Reconcile: what the broker has lost is published again, from PostgreSQL, at a bounded rate.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::context::{Context, Grace};
use super::{publish, release};
use crate::domain::reconcile;
use crate::domain::work_queue::WorkQueue;
use crate::store::reconcile::Proofs;
use crate::store::{Db, StoreError, endpoints, markers, reconcile as lost, relay_batches};
use crate::telemetry::metrics;

/// Deliveries republished with one statement.
const BATCH: i64 = 500;
/// A search that finds nothing is repeated after twenty times what it took, or at the reconcile interval.
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

#[derive(Default)]
pub struct Reconciler {
    next: Option<Instant>,
    /// A statement failed, and may have done its work all the same.
    unknown: bool,
    last_prune: Option<Instant>,
}

impl Reconciler {
    /// One batch at most, so that a rebuild does not flood the workers.
    pub(super) async fn step(
        &mut self,
        context: &Context,
        relay: i64,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        if self.next.is_some_and(|next| Instant::now() < next) {
            return Ok(());
        }
        if self.unknown {
            release::recover(context, relay, stop).await?;
        }
        let began = Instant::now();
        self.unknown = true;
        let proofs = proofs(&context.db, context.limits.grace).await?;
        let found = batch(context, relay, proofs).await?;
        self.unknown = false;
        let pause =
            if found == 0 { context.limits.reconcile_interval.max(began.elapsed() * DUTY) } else { Duration::ZERO };
        self.next = Some(Instant::now() + pause);
        self.prune(context).await
    }

    async fn prune(&mut self, context: &Context) -> Result<(), StoreError> {
        const EVERY: Duration = Duration::from_secs(60);
        const KEEP: Duration = Duration::from_secs(3600);
        if self.last_prune.is_none_or(|last| last.elapsed() >= EVERY) {
            markers::prune(&context.db, KEEP).await?;
            self.last_prune = Some(Instant::now());
        }
        Ok(())
    }
}

async fn batch(context: &Context, relay: i64, proofs: Proofs) -> Result<usize, StoreError> {
    let batch = lost::republish(&context.db, relay, proofs, BATCH).await?;
    let found = batch.messages.len();
    if let Some(id) = batch.id {
        tracing::warn!(deliveries = found, "the broker has lost messages; publishing them again");
        metrics::lost_and_republished(found as u64);
        publish::due(context, batch.messages).await;
        relay_batches::unlist(&context.db, &[id]).await?;
    }
    Ok(found)
}
