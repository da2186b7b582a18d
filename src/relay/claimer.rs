//! Claiming batches and handing them to the publisher, several at a time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::idle::Idle;
use super::watermark::{From, Watermark};
use super::{Context, publish};
use crate::domain::reconnect;
use crate::store::claim::{self, Batch};
use crate::store::{StoreError, outbox, partitions, relay_batches};

/// Batches that wait for confirms at once. More would only queue at the broker.
const BATCHES: usize = 4;
/// While the broker is blocked or away, ask it this often.
const BLOCKED: Duration = Duration::from_millis(250);
/// After this many refusals in a row the row at the head is claimed alone, and then set aside.
const PATIENCE: u32 = 3;

struct Claimer {
    context: Arc<Context>,
    relay: i64,
    watermark: Watermark,
    /// Batches that the broker has confirmed; the next claim forgets them.
    confirmed: mpsc::UnboundedReceiver<i64>,
    done: mpsc::UnboundedSender<i64>,
    unlist: Vec<i64>,
    under_way: Arc<Semaphore>,
    publishing: TaskTracker,
    abandon: CancellationToken,
    refusals: u32,
}

pub(super) async fn run(context: Arc<Context>, relay: i64, stop: CancellationToken, abandon: CancellationToken) {
    // Bounded all the same: there are never more entries than batches.
    let (done, confirmed) = mpsc::unbounded_channel();
    let mut claimer = Claimer {
        context: context.clone(),
        relay,
        watermark: Watermark::default(),
        confirmed,
        done,
        unlist: Vec::new(),
        under_way: Arc::new(Semaphore::new(BATCHES)),
        publishing: TaskTracker::new(),
        abandon,
        refusals: 0,
    };
    let mut idle = Idle::new(context);
    let mut failures = 0;
    while !stop.is_cancelled() {
        match claimer.step(&mut idle, &stop).await {
            Ok(()) => failures = 0,
            Err(error) => {
                tracing::warn!(%error, failures, "a claim failed; trying again");
                claimer.watermark.sweep_next();
                claimer.recover(&error).await;
                tokio::select! {
                    () = tokio::time::sleep(reconnect::pause(failures, rand::random())) => {}
                    () = stop.cancelled() => {}
                }
                failures += 1;
            }
        }
    }
    claimer.finish().await;
    idle.awake().await;
}

impl Claimer {
    /// One claim, or one step towards sleep. Every wait ends with `stop`, but a claim is never left half-way: the server
    /// would commit it all the same, and the batch would wait for its adoption.
    async fn step(&mut self, idle: &mut Idle, stop: &CancellationToken) -> Result<(), StoreError> {
        let ready = async {
            self.broker_ready().await;
            self.under_way.clone().acquire_owned().await
        };
        let permit = tokio::select! {
            permit = ready => permit,
            () = stop.cancelled() => return Ok(()),
        };
        let Ok(permit) = permit else { return Ok(()) };
        let limit = if self.refusals >= PATIENCE { 1 } else { i64::from(self.context.limits.batch_size) };
        if idle.wants_sweep() {
            self.watermark.sweep_next();
        }
        let from = self.watermark.next(Instant::now());
        let batch = self.claim(from, limit).await?;
        self.refusals = 0;
        if batch.events == 0 {
            drop(permit);
            return tokio::select! {
                result = idle.empty(from == From::Sweep) => result,
                () = stop.cancelled() => Ok(()),
            };
        }
        idle.busy().await?;
        let (context, done, abandon) = (self.context.clone(), self.done.clone(), self.abandon.clone());
        self.publishing.spawn(async move {
            publish_batch(&context, batch, &done, &abandon).await;
            drop(permit);
        });
        Ok(())
    }

    async fn claim(&mut self, from: From, limit: i64) -> Result<Batch, StoreError> {
        while let Ok(id) = self.confirmed.try_recv() {
            self.unlist.push(id);
        }
        let began = Instant::now();
        let context = &self.context;
        let batch =
            claim::claim(&context.claim_db, self.relay, from.id(), limit, &context.ceilings, &self.unlist).await?;
        self.unlist.clear();
        self.watermark.claimed(from, batch.highest, began.elapsed(), Instant::now());
        if batch.set_aside > 0 {
            tracing::error!(events = batch.set_aside, "set aside: their ids were used before (posthaste.set_aside)");
        }
        if batch.unmatched > 0 {
            tracing::debug!(events = batch.unmatched, "recorded; no endpoint matched");
        }
        Ok(batch)
    }

    /// A relay must not move rows that it cannot publish: they would only wait elsewhere.
    async fn broker_ready(&self) {
        let mut failures = 0;
        loop {
            match self.context.publisher.is_ready().await {
                Ok(true) => {
                    self.context.readiness.ready("broker");
                    return;
                }
                Ok(false) => {
                    self.context.readiness.not_ready("broker", "blocked by a memory or disk alarm");
                    tokio::time::sleep(BLOCKED).await;
                }
                Err(error) => {
                    self.context.readiness.not_ready("broker", error.to_string());
                    tracing::warn!(%error, failures, "no broker; not claiming");
                    tokio::time::sleep(reconnect::pause(failures, rand::random())).await;
                    failures += 1;
                }
            }
        }
    }

    /// What can be done about a claim that the database refused: a missing day is made, a row that cannot be moved is
    /// found by claiming one row at a time, and set aside.
    async fn recover(&mut self, error: &StoreError) {
        if !error.blames_data() {
            return;
        }
        if let Ok(made) = partitions::make_for_outbox(&self.context.db).await
            && made > 0
        {
            tracing::info!(partitions = made, "made the partitions of a missed day");
            return;
        }
        self.refusals += 1;
        if self.refusals <= PATIENCE {
            return;
        }
        if let Ok(Some(id)) = outbox::first_id(&self.context.db, uuid::Uuid::nil()).await {
            match outbox::set_aside(&self.context.db, id, &error.to_string()).await {
                Ok(_) => tracing::error!(event_id = %id, %error, "set aside: the row cannot be moved"),
                Err(error) => tracing::error!(event_id = %id, %error, "cannot set aside a row"),
            }
            self.refusals = 0;
        }
    }

    /// Waits for the publishes under way and forgets what was confirmed. What is left is adopted by another relay.
    async fn finish(mut self) {
        self.publishing.close();
        tokio::select! {
            () = self.publishing.wait() => {}
            () = self.abandon.cancelled() => tracing::warn!("abandoned unconfirmed batches; another relay adopts them"),
        }
        self.confirmed.close();
        while let Ok(id) = self.confirmed.try_recv() {
            self.unlist.push(id);
        }
        if let Err(error) = relay_batches::unlist(&self.context.db, &self.unlist).await {
            tracing::warn!(%error, "confirmed batches stay listed; adopting them publishes nothing twice that was settled");
        }
    }
}

async fn publish_batch(
    context: &Context,
    batch: Batch,
    done: &mpsc::UnboundedSender<i64>,
    abandon: &CancellationToken,
) {
    tokio::select! {
        () = publish::first_attempts(context, batch.messages) => {}
        () = abandon.cancelled() => return,
    }
    if let Some(id) = batch.id {
        let _ = done.send(id);
    }
}
