//! The worker: consume, ask the gate, POST, decide, settle.
//!
//! Any number of workers may run. Each keeps two lanes, one for first attempts and one for retries, with places of their
//! own, so that a wave of retries never starves first attempts. In each lane prompt and slow requests have rooms of their
//! own, so that endpoints that hang do not starve others.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod acks;
mod activity;
mod alarm;
mod apart;
mod attempt;
mod bytes;
mod circuits;
mod coalesce;
mod endpoints;
mod gates;
mod gone;
mod in_hand;
mod intake;
mod job;
mod journey;
mod known;
mod lane;
mod publish;
mod ready;
mod recorder;
mod rooms;
mod settler;
mod share;
mod silence;
mod suspicion;

pub use attempt::test_request;
pub use endpoints::load;
pub use ready::Ready;

use crate::broker;
use crate::broker::publisher::Publisher;
use crate::broker::topology::Topology;
use crate::domain::backoff::Policies;
use crate::domain::circuit;
use crate::domain::places::Capacity;
use crate::domain::sealing;
use crate::http::client::Client;
use crate::store::Db;
use crate::supervise::{Ended, Helpers, Supervised};
use crate::telemetry::readiness::Readiness;

/// What a worker is made of. Adapters are shared by all its tasks.
pub struct Parts {
    pub db: Db,
    pub client: Client,
    pub broker: broker::Settings,
    pub topology: Topology,
    pub policies: Arc<Policies>,
    pub key: sealing::Key,
    pub limits: Limits,
    /// Names this worker in the attempts table and in the broker's list of connections.
    pub name: String,
    pub readiness: Readiness,
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests in flight and messages in hand, of all workers together.
    pub capacity: Capacity,
    /// Requests in flight for one endpoint that sets no limit of its own, from all workers together.
    pub max_in_flight: usize,
    pub circuit: circuit::Rules,
    /// The total time-out of one request, for an endpoint that sets none.
    pub timeout: Duration,
    /// The database listens for changes of endpoints; otherwise the worker asks every second.
    pub listen: bool,
}

/// For messages under way, once they are abandoned.
const LAST_WORD: Duration = Duration::from_secs(1);

/// What every task of the worker shares.
struct Context {
    db: Db,
    client: Client,
    publisher: Publisher,
    policies: Arc<Policies>,
    endpoints: endpoints::EndpointCache,
    gates: gates::Gates,
    replicas: share::Replicas,
    in_hand: in_hand::InHand,
    /// Messages under way and acknowledgements, of all channels.
    journeys: TaskTracker,
    rows: coalesce::RowReader,
    holds: coalesce::Holder,
    recorder: recorder::Recorder,
    /// Statements about deliveries that were refused together with others.
    apart: Semaphore,
    disabling: gone::Disabling,
    /// One suspect at a time, where suspects must be told apart.
    alone: Arc<Semaphore>,
    limits: Limits,
    name: String,
    broker: broker::Settings,
    topology: Topology,
    /// Whoever spawns a task that something waits for spawns it watched.
    helpers: Helpers,
    /// Ends everything: the grace period is over.
    abandon: CancellationToken,
}

/// Works until `stop`, then finishes or abandons what is in flight: `abandon` ends the grace period. What is abandoned
/// stays unacknowledged, so the broker hands it to another worker, and no attempt is spent.
///
/// `Err`: a task is missing without which the worker would do nothing; the process must not go on.
pub async fn run(parts: Parts, stop: CancellationToken, abandon: CancellationToken) -> Result<(), Ended> {
    // Ends every task of this worker; `abandon` leads to it, once what is left has been counted.
    let over = CancellationToken::new();
    let publisher = Publisher::new(
        parts.broker.clone(),
        parts.topology.names.clone(),
        &format!("posthaste worker {} publish", parts.name),
    );
    let readiness = parts.readiness.clone();
    let mut tasks = Supervised::default();
    let context = start(parts, publisher.clone(), &mut tasks, over.clone());
    tasks.spawn("alarm watch", alarm::watch(publisher.clone(), readiness.clone(), over.clone()));
    let ends = intake::Ends { stop, abandon };
    let worked = tasks.during(intake::run(context.clone(), readiness, ends), &over).await;
    over.cancel();
    // What is abandoned has a last word to say.
    context.journeys.close();
    let _ = tokio::time::timeout(LAST_WORD, context.journeys.wait()).await;
    drop(tasks);
    publisher.close().await;
    worked
}

/// The long-lived tasks, and what all of them share.
fn start(parts: Parts, publisher: Publisher, tasks: &mut Supervised, over: CancellationToken) -> Arc<Context> {
    let (endpoints, finding) = endpoints::EndpointCache::new(parts.db.clone(), parts.key.clone(), over.clone());
    tasks.spawn("endpoint changes", endpoints.clone().keep_fresh(parts.limits.listen, over.clone()));
    tasks.spawn("endpoint reader", finding);
    let (rows, reading) = coalesce::row_reader(parts.db.clone(), over.clone());
    tasks.spawn("row reader", reading);
    let (holds, holding) = coalesce::holder(parts.db.clone(), over.clone());
    tasks.spawn("holder", holding);
    let (recorder, jobs) = recorder::Recorder::new();
    let gates = gates::Gates::default();
    let context = Arc::new(Context {
        db: parts.db,
        client: parts.client,
        publisher,
        policies: parts.policies,
        endpoints,
        gates: gates.clone(),
        replicas: share::Replicas::default(),
        in_hand: in_hand::InHand::default(),
        journeys: TaskTracker::new(),
        rows,
        holds,
        recorder,
        apart: Semaphore::new(apart::UNDER_WAY),
        disabling: gone::Disabling::default(),
        alone: Arc::new(Semaphore::new(1)),
        limits: parts.limits,
        name: parts.name,
        broker: parts.broker,
        topology: parts.topology,
        helpers: tasks.helpers(),
        abandon: over.clone(),
    });
    tasks.spawn("recorder", recorder::run(context.clone(), jobs));
    tasks.spawn("reports", activity::keep_reporting(context.db.clone(), context.name.clone(), gates, over));
    context
}
