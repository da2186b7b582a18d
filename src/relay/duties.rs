//! What the relay that leads does beside the release and the adoption: circuits, markers, reconcile, partitions and what is
//! too old. Each goes its own way: one that fails, or waits for the broker, keeps no other waiting.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::circuits::Circuits;
use super::duty::Ticker;
use super::markers::Markers;
use super::old_dead_letters::OldDeadLetters;
use super::reconcile::Reconciler;
use super::retention::Retention;
use super::top_endpoints::{self, TopEndpoints};
use super::waiting::{self, Waiting};
use crate::domain::retention::Unfinished;
use crate::store::{Db, StoreError, activity, idempotency, leftovers, partitions, suspects, told};
use crate::telemetry::metrics;
use crate::telemetry::names::Duty;

const TICK: Duration = Duration::from_millis(200);
const HOURLY: Duration = Duration::from_secs(3600);
/// When no idempotency key is left that has expired, it is looked again after this.
const EXPIRY: Duration = Duration::from_secs(10);
/// How often days are looked for that are to end.
const DAYS: Duration = Duration::from_secs(60);

/// What is done by parts of their own, and the database for the rest.
pub(super) struct Duties {
    pub circuits: Circuits,
    pub markers: Markers,
    pub reconciler: Reconciler,
    pub old_dead_letters: OldDeadLetters,
    pub retention: Retention,
    pub top_endpoints: TopEndpoints,
    pub waiting: Waiting,
    pub db: Db,
}

pub(super) async fn run(duties: Duties, relay: i64, leads: Arc<AtomicBool>, stop: CancellationToken) {
    while !leads.load(Ordering::Relaxed) {
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = stop.cancelled() => return,
        }
    }
    // What is interrupted was either not committed, or stays listed and is adopted.
    tokio::select! {
        () = all(duties, relay, &leads, &stop) => {}
        () = stop.cancelled() => {}
    }
    // Whoever leads next says how it is.
    metrics::retention(Duration::ZERO, &HashMap::new());
}

async fn all(duties: Duties, relay: i64, leads: &AtomicBool, stop: &CancellationToken) {
    let Duties { circuits, markers, reconciler, old_dead_letters, retention, top_endpoints, waiting, db } = duties;
    let ticker = |duty, tick| Ticker::new(duty, tick, leads, stop);
    tokio::join!(
        keep_circuits(circuits, ticker(Duty::Circuits, TICK)),
        publish_markers(markers, ticker(Duty::Markers, TICK)),
        reconcile(reconciler, relay, stop, ticker(Duty::Reconcile, TICK)),
        make_partitions(&db, ticker(Duty::Partitions, HOURLY)),
        remove_keys(&db, ticker(Duty::IdempotencyKeys, TICK)),
        clean(&retention, &old_dead_letters, ticker(Duty::Cleaning, HOURLY)),
        end_days(&retention, ticker(Duty::Retention, DAYS)),
        find_top(top_endpoints, ticker(Duty::TopEndpoints, top_endpoints::TICK)),
        count_waiting(waiting, ticker(Duty::Waiting, waiting::TICK)),
    );
}

async fn keep_circuits(mut circuits: Circuits, mut ticker: Ticker<'_>) {
    while ticker.due().await {
        ticker.done(circuits.step().await);
    }
}

async fn publish_markers(mut markers: Markers, mut ticker: Ticker<'_>) {
    while ticker.due().await {
        ticker.done(markers.step().await);
    }
}

async fn reconcile(mut reconciler: Reconciler, relay: i64, stop: &CancellationToken, mut ticker: Ticker<'_>) {
    while ticker.due().await {
        ticker.done(reconciler.step(relay, stop).await);
    }
}

async fn make_partitions(db: &Db, mut ticker: Ticker<'_>) {
    while ticker.due().await {
        ticker.done(partitions::make_ahead(db).await.map(drop));
    }
}

/// One batch at a time: five thousand keys a second, which is more than producers can make.
async fn remove_keys(db: &Db, mut ticker: Ticker<'_>) {
    let mut next = Instant::now();
    while ticker.due().await {
        if Instant::now() < next {
            continue;
        }
        let removed = idempotency::remove_expired(db).await;
        if removed.as_ref().is_ok_and(|removed| *removed < idempotency::BATCH) {
            next = Instant::now() + EXPIRY;
        }
        ticker.done(removed.map(drop));
    }
}

async fn count_waiting(mut waiting: Waiting, mut ticker: Ticker<'_>) {
    while ticker.due().await {
        ticker.done(waiting.step().await);
    }
}

async fn find_top(endpoints: TopEndpoints, mut ticker: Ticker<'_>) {
    while endpoints.are_wanted() && ticker.due().await {
        ticker.done(endpoints.step().await);
    }
}

async fn end_days(retention: &Retention, mut ticker: Ticker<'_>) {
    while ticker.due().await {
        ticker.done(retention.step().await);
    }
}

async fn clean(retention: &Retention, dead_letters: &OldDeadLetters, mut ticker: Ticker<'_>) {
    while ticker.due().await {
        let removed = remove_old(retention).await;
        ticker.done(removed.and(dead_letters.remove().await));
    }
}

async fn remove_old(Retention { db, rule, .. }: &Retention) -> Result<(), StoreError> {
    activity::prune(db).await?;
    told::prune(db).await?;
    suspects::remove_old(db).await?;
    while leftovers::remove_secrets(db).await? == leftovers::BATCH {}
    while leftovers::remove_requeues(db, rule.days).await? == leftovers::BATCH {}
    if rule.unfinished == Unfinished::Keep {
        return Ok(());
    }
    loop {
        let removed = leftovers::remove_set_aside(db, rule.days).await?;
        for event_id in &removed {
            tracing::warn!(%event_id, "an event that was set aside was removed: older than the retention");
        }
        if (removed.len() as u64) < leftovers::BATCH {
            return Ok(());
        }
    }
}
