//! Publishing markers: a small message through each work queue every few seconds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::context::Context;
use crate::domain::work_queue::WorkQueue;
use crate::store::{StoreError, markers};

/// A marker that has not come through after this long may be lost itself, or the queue is long; one more does no harm.
const PATIENCE: Duration = Duration::from_secs(10);

/// The marker of each queue that is under way.
#[derive(Default)]
pub struct Markers {
    under_way: HashMap<WorkQueue, (DateTime<Utc>, Instant)>,
    last: Option<Instant>,
}

impl Markers {
    /// Publishes what is due. A queue whose last marker is still under way gets no other one, so a long queue does not
    /// fill up with markers.
    pub(super) async fn step(&mut self, context: &Context) -> Result<(), StoreError> {
        if self.last.is_some_and(|last| last.elapsed() < context.limits.reconcile_interval) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        for queue in WorkQueue::ALL {
            if let Some((published_at, since)) = self.under_way.get(&queue) {
                let arrived = markers::is_recorded(&context.db, queue.key(), *published_at).await?;
                if !arrived && since.elapsed() < PATIENCE {
                    continue;
                }
            }
            let published_at = markers::now(&context.db).await?;
            match context.publisher.publish_marker(queue, published_at).await {
                Ok(()) => {
                    self.under_way.insert(queue, (published_at, Instant::now()));
                }
                Err(error) => tracing::debug!(%error, queue = queue.key(), "a marker was not published"),
            }
        }
        Ok(())
    }
}
