//! Telling PostgreSQL what this worker sees of its endpoints.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::gates::Gates;
use crate::store::Db;
use crate::store::activity;

const EVERY: Duration = Duration::from_secs(2);
/// Endpoints in one report; the others are in the next one.
const MOST: usize = 500;

/// Reports until told to stop. A report that fails is no loss: the next one says the same.
pub async fn keep_reporting(db: Db, worker: String, gates: Gates, stop: CancellationToken) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        let reports = gates.reports(MOST);
        if reports.is_empty() {
            continue;
        }
        if let Err(error) = activity::report(&db, &worker, &reports).await {
            tracing::debug!(%error, "cannot report what is in flight");
        }
    }
}
