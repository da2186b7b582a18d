//! Recording the markers that come through a work queue.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::acks::Receipt;
use super::database::until_answered;
use crate::domain::work_queue::WorkQueue;
use crate::store::{Db, markers};
use crate::telemetry::metrics;

pub struct Markers {
    pub db: Db,
    pub abandon: CancellationToken,
}

impl Markers {
    /// A marker has come through: everything published before it into the same queue has been handed out.
    pub async fn record(&self, queue: WorkQueue, published_at: DateTime<Utc>, receipt: &Receipt) {
        let record = || markers::record(&self.db, queue.key(), published_at);
        let Ok(latency) = until_answered(&self.abandon, "record a marker", record).await else { return };
        if let Some(seconds) = latency {
            metrics::queue_latency(queue.key(), Duration::from_secs_f64(seconds.max(0.0)));
        }
        receipt.settle();
    }
}
