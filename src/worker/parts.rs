//! What a worker is given.

use std::sync::Arc;

use super::limits::Limits;
use crate::broker;
use crate::broker::topology::Topology;
use crate::domain::backoff::Policies;
use crate::domain::sealing;
use crate::http::client::Client;
use crate::http::rules::Rules;
use crate::store::Db;
use crate::telemetry::readiness::Readiness;

/// Adapters are shared by all its tasks.
pub struct Parts {
    pub db: Db,
    pub client: Client,
    pub broker: broker::Settings,
    pub topology: Topology,
    pub policies: Arc<Policies>,
    pub keys: sealing::Keyring,
    /// Which URLs may be sent to.
    pub rules: Rules,
    pub limits: Limits,
    /// Names this worker in the attempts table and in the broker's list of connections.
    pub name: String,
    pub readiness: Readiness,
}
