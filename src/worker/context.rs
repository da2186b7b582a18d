//! What the tasks that consume and process messages share.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::circuits::Circuits;
use super::coalesce::{Holder, RowReader};
use super::disabling::Disabling;
use super::endpoints::EndpointCache;
use super::gates::Gates;
use super::locks::DeliveryLocks;
use super::quarantine::Quarantine;
use super::recorder::Recorder;
use super::replicas::Replicas;
use super::successors::Successors;
use crate::domain::backoff::Policies;
use crate::domain::circuit;
use crate::domain::places::Capacity;
use crate::http::client::Client;
use crate::store::Db;
use crate::supervise::Helpers;

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests in flight and unacknowledged messages, of all workers together.
    pub capacity: Capacity,
    /// Requests in flight for one endpoint that sets no limit of its own, from all workers together.
    pub max_in_flight: usize,
    pub circuit: circuit::Rules,
    /// The total time-out of one request, for an endpoint that sets none.
    pub timeout: Duration,
    /// The database listens for changes of endpoints; otherwise the worker asks every second.
    pub listen: bool,
}

pub(super) struct Context {
    pub name: String,
    pub limits: Limits,
    pub policies: Arc<Policies>,
    pub db: Db,
    pub client: Client,
    pub endpoints: EndpointCache,
    pub gates: Gates,
    pub circuits: Circuits,
    pub disabling: Disabling,
    pub quarantine: Arc<Quarantine>,
    pub replicas: Replicas,
    pub locks: DeliveryLocks,
    pub rows: RowReader,
    pub holds: Holder,
    pub recorder: Recorder,
    pub successors: Arc<Successors>,
    /// Messages under way and acknowledgements, of all channels.
    pub under_way: TaskTracker,
    /// Whoever spawns a task that something waits for spawns it watched.
    pub helpers: Helpers,
    /// Ends everything: the grace period is over.
    pub abandon: CancellationToken,
}
