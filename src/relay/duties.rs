//! What the relay that leads does beside the release and the adoption, one after the other: circuits, markers, reconcile,
//! and making partitions. A failure is tried again; it ends nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::circuits::Circuits;
use super::markers::Markers;
use super::reconcile::Reconciler;
use super::{Context, release};
use crate::domain::reconnect;
use crate::store::{StoreError, activity, idempotency, partitions, suspects};

const TICK: Duration = Duration::from_millis(200);
const HOURLY: Duration = Duration::from_secs(3600);

pub(super) async fn run(context: Arc<Context>, relay: i64, leads: Arc<AtomicBool>, stop: CancellationToken) {
    let mut duties = Duties::new();
    let mut failures = 0;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        if !leads.load(Ordering::Relaxed) {
            continue;
        }
        let done = tokio::select! {
            done = duties.step(&context, relay) => done,
            () = stop.cancelled() => return,
        };
        let Err(error) = done else {
            failures = 0;
            continue;
        };
        tracing::warn!(%error, failures, "a duty of the leading relay failed; trying again");
        let again = async {
            tokio::time::sleep(reconnect::pause(failures, rand::random())).await;
            // Reconcile may have committed a batch without an answer.
            release::recover(&context, relay, &stop).await
        };
        tokio::select! {
            recovered = again => drop(recovered),
            () = stop.cancelled() => return,
        }
        failures += 1;
    }
}

struct Duties {
    circuits: Circuits,
    markers: Markers,
    reconciler: Reconciler,
    last_hour: Instant,
}

impl Duties {
    fn new() -> Duties {
        let (circuits, markers) = (Circuits::default(), Markers::default());
        Duties { circuits, markers, reconciler: Reconciler::default(), last_hour: Instant::now() }
    }

    async fn step(&mut self, context: &Context, relay: i64) -> Result<(), StoreError> {
        self.circuits.step(context).await?;
        self.markers.step(context).await?;
        self.reconciler.step(context, relay).await?;
        if self.last_hour.elapsed() >= HOURLY {
            partitions::make_ahead(&context.db).await?;
            idempotency::remove_expired(&context.db).await?;
            activity::prune(&context.db).await?;
            suspects::remove_old(&context.db).await?;
            self.last_hour = Instant::now();
        }
        Ok(())
    }
}
