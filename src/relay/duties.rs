//! What the relay that leads does beside the release and the adoption: circuits, markers, reconcile, partitions and what is
//! too old. Each goes its own way: one that fails, or waits for the broker, keeps no other waiting.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::circuits::Circuits;
use super::context::Context;
use super::duty::Ticker;
use super::markers::Markers;
use super::reconcile::Reconciler;
use super::waiting::{self, Waiting};
use crate::store::{StoreError, activity, idempotency, partitions, suspects};
use crate::telemetry::names::Duty;

const TICK: Duration = Duration::from_millis(200);
const HOURLY: Duration = Duration::from_secs(3600);
/// When no idempotency key is left that has expired, it is looked again after this.
const EXPIRY: Duration = Duration::from_secs(10);

pub(super) async fn run(context: Arc<Context>, relay: i64, leads: Arc<AtomicBool>, stop: CancellationToken) {
    while !leads.load(Ordering::Relaxed) {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = stop.cancelled() => return,
        }
    }
    // What is interrupted was either not committed, or stays listed and is adopted.
    tokio::select! {
        () = all(&context, relay, &leads, &stop) => {}
        () = stop.cancelled() => {}
    }
}

async fn all(context: &Context, relay: i64, leads: &AtomicBool, stop: &CancellationToken) {
    let ticker = |duty, tick| Ticker::new(duty, tick, leads, stop);
    tokio::join!(
        keep_circuits(context, ticker(Duty::Circuits, TICK)),
        publish_markers(context, ticker(Duty::Markers, TICK)),
        reconcile(context, relay, stop, ticker(Duty::Reconcile, TICK)),
        make_partitions(context, ticker(Duty::Partitions, HOURLY)),
        remove_keys(context, ticker(Duty::IdempotencyKeys, TICK)),
        clean(context, ticker(Duty::Cleaning, HOURLY)),
        count_waiting(context, ticker(Duty::Waiting, waiting::TICK)),
    );
}

async fn keep_circuits(context: &Context, mut ticker: Ticker<'_>) {
    let mut circuits = Circuits::default();
    while ticker.due().await {
        ticker.done(circuits.step(context).await);
    }
}

async fn publish_markers(context: &Context, mut ticker: Ticker<'_>) {
    let mut markers = Markers::default();
    while ticker.due().await {
        ticker.done(markers.step(context).await);
    }
}

async fn reconcile(context: &Context, relay: i64, stop: &CancellationToken, mut ticker: Ticker<'_>) {
    let mut reconciler = Reconciler::default();
    while ticker.due().await {
        ticker.done(reconciler.step(context, relay, stop).await);
    }
}

async fn make_partitions(context: &Context, mut ticker: Ticker<'_>) {
    while ticker.due().await {
        ticker.done(partitions::make_ahead(&context.db).await.map(drop));
    }
}

/// One batch at a time: five thousand keys a second, which is more than producers can make.
async fn remove_keys(context: &Context, mut ticker: Ticker<'_>) {
    let mut next = Instant::now();
    while ticker.due().await {
        if Instant::now() < next {
            continue;
        }
        let removed = idempotency::remove_expired(&context.db).await;
        if removed.as_ref().is_ok_and(|removed| *removed < idempotency::BATCH) {
            next = Instant::now() + EXPIRY;
        }
        ticker.done(removed.map(drop));
    }
}

async fn count_waiting(context: &Context, mut ticker: Ticker<'_>) {
    let mut waiting = Waiting::new(context);
    while ticker.due().await {
        ticker.done(waiting.step(context).await);
    }
}

async fn clean(context: &Context, mut ticker: Ticker<'_>) {
    while ticker.due().await {
        ticker.done(remove_old(context).await);
    }
}

async fn remove_old(context: &Context) -> Result<(), StoreError> {
    activity::prune(&context.db).await?;
    suspects::remove_old(&context.db).await.map(drop)
}
