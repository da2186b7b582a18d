//! The two queues that workers consume: a wave of retries or a replay must not starve first attempts.

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkQueue {
    /// First attempts.
    Deliver,
    /// What is due again: retries, releases, requeues.
    Retry,
}

impl WorkQueue {
    pub const ALL: [WorkQueue; 2] = [WorkQueue::Deliver, WorkQueue::Retry];

    /// The routing key, which also names the queue's markers.
    pub const fn key(self) -> &'static str {
        match self {
            WorkQueue::Deliver => "deliver",
            WorkQueue::Retry => "retry",
        }
    }
}
