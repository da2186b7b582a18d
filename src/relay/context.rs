//! What the tasks of a relay share.

use std::sync::Arc;
use std::time::Duration;

use super::held::Held;
use crate::broker;
use crate::broker::publisher::Publisher;
use crate::broker::topology::Topology;
use crate::domain::backoff::Policies;
use crate::store::Db;
use crate::store::claim::Ceilings;
use crate::telemetry::readiness::Readiness;

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
    /// Markers are published, and losses looked for, this often.
    pub reconcile_interval: Duration,
    pub grace: Grace,
}

/// What bounds how long a worker may hold a message.
#[derive(Debug, Clone, Copy)]
pub struct Grace {
    pub configured: Duration,
    /// The time-out of endpoints that set none.
    pub timeout: Duration,
}

pub(super) struct Context {
    pub db: Db,
    pub claim_db: Db,
    pub publisher: Publisher,
    pub broker: broker::Settings,
    pub topology: Topology,
    pub policies: Arc<Policies>,
    pub ceilings: Ceilings,
    pub limits: Limits,
    pub readiness: Readiness,
    pub held: Held,
}
