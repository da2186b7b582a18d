//! What is under way in this worker, and waiting for its end.

use tokio_util::task::TaskTracker;

use super::locks::DeliveryLocks;
use crate::supervise::Helpers;

/// Of a task for one message. There are as many as messages under way, and each is copied and kept in memory, so what a
/// task does rarely is in a box of its own.
const MAX_TASK_BYTES: usize = 4096;

#[derive(Clone)]
pub struct Running {
    /// Messages under way and acknowledgements, of all channels.
    tasks: TaskTracker,
    /// Whoever spawns a task that something waits for spawns it watched.
    helpers: Helpers,
    locks: DeliveryLocks,
}

impl Running {
    pub fn new(helpers: Helpers, locks: DeliveryLocks) -> Running {
        Running { tasks: TaskTracker::new(), helpers, locks }
    }

    pub fn spawn<F>(&self, name: &'static str, task: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        debug_assert!(size_of_val(&task) <= MAX_TASK_BYTES, "{name}: the task has {} bytes", size_of_val(&task));
        self.tasks.spawn(self.helpers.watched(name, task));
    }

    /// Deliveries that this worker is busy with.
    pub fn deliveries(&self) -> usize {
        self.locks.len()
    }

    /// Waits until nothing is under way any more.
    pub async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Also what was handed over to be settled.
    pub async fn settled(&self) {
        self.ended().await;
        self.locks.emptied().await;
    }
}
