//! What bounds a worker.

use std::time::Duration;

use crate::domain::circuit;
use crate::domain::places::Capacity;
use crate::domain::share::Share;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests in flight and unacknowledged messages, of all workers together.
    pub capacity: Capacity,
    /// Requests in flight for one endpoint that sets no limit of its own, from all workers together.
    pub max_in_flight: usize,
    pub circuit: circuit::Rules,
    /// The total time-out of one request, for an endpoint that sets none.
    pub timeout: Duration,
    /// Delivered attempts that are logged at `info`.
    pub log_delivered: Share,
    /// The database listens for changes of endpoints; otherwise the worker asks every second.
    pub listen: bool,
}
