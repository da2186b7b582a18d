//! What bounds a relay.

use std::time::Duration;

use crate::domain::retention::Rule;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub batch_size: u32,
    pub poll_interval: Duration,
    /// Sleep on LISTEN; otherwise poll all the time.
    pub listen: bool,
    /// Circuits are in use; otherwise any that is open is closed.
    pub circuits: bool,
    /// Endpoints whose circuit has not been closed for this long are disabled; zero: never.
    pub disable_after: Duration,
    /// Requests in flight for one endpoint that sets no limit of its own.
    pub max_in_flight: u32,
    /// Places for due retries in all workers together. More released deliveries than that would only wait in the queue.
    pub places: u32,
    /// Deliveries that are still held when their event is this old become dead; zero: never.
    pub held_ttl: Duration,
    /// When a day of history ends.
    pub retention: Rule,
    /// Markers are published, and losses looked for, this often.
    pub reconcile_interval: Duration,
    pub grace: Grace,
    /// Endpoints with metrics of their own; 0: none.
    pub top_endpoints: u32,
}

/// What bounds how long a worker may hold a message.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    pub configured: Duration,
    /// The time-out of endpoints that set none.
    pub timeout: Duration,
}
