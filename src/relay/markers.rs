//! Publishing markers: a small message through each work queue every few seconds.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use crate::broker::publisher::Publisher;
use crate::domain::work_queue::WorkQueue;
use crate::store::{Db, StoreError, markers};

/// A marker that has not come through after this long may be lost itself, or the queue is long; one more does no harm.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Markers {
    db: Db,
    publisher: Publisher,
    every: Duration,
    /// The marker of each queue that is under way.
    under_way: HashMap<WorkQueue, (DateTime<Utc>, Instant)>,
    last: Option<Instant>,
}

impl Markers {
    pub fn new(db: Db, publisher: Publisher, every: Duration) -> Markers {
        Markers { db, publisher, every, under_way: HashMap::new(), last: None }
    }

    /// Publishes what is due. A queue whose last marker is still under way gets no other one, so a long queue does not
    /// fill up with markers.
    pub async fn step(&mut self) -> Result<(), StoreError> {
        if self.last.is_some_and(|last| last.elapsed() < self.every) {
            return Ok(());
        }
        self.last = Some(Instant::now());
        for queue in WorkQueue::ALL {
            if let Some((published_at, since)) = self.under_way.get(&queue) {
                let arrived = markers::is_recorded(&self.db, queue.key(), *published_at).await?;
                if !arrived && since.elapsed() < PATIENCE {
                    continue;
                }
            }
            let published_at = markers::now(&self.db).await?;
            match self.publisher.publish_marker(queue, published_at).await {
                Ok(()) => {
                    self.under_way.insert(queue, (published_at, Instant::now()));
                }
                Err(error) => tracing::debug!(%error, queue = queue.key(), "a marker was not published"),
            }
        }
        Ok(())
    }
}
