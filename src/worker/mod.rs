//! The worker: consume, ask the gate, POST, decide, settle.
//!
//! Any number of workers may run. Each has a share of both work queues, the one of first attempts and the one of retries, so
//! that a wave of retries never starves first attempts. In each share prompt and slow requests have rooms of their own, so
//! that endpoints that hang do not starve others.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod ack_book;
mod acks;
mod alarm;
mod apart;
mod attempt;
mod bytes;
mod circuits;
mod coalesce;
mod consume;
mod context;
mod database;
mod disabling;
mod endpoints;
mod gates;
mod job;
mod known;
mod locks;
mod processing;
mod quarantine;
mod queue_share;
mod ready;
mod recorder;
mod replicas;
mod reports;
mod rooms;
mod seen;
mod settler;
mod stall;
mod successors;

pub use attempt::test_request;
pub use context::Limits;
pub use endpoints::load;

use crate::broker;
use crate::broker::publisher::Publisher;
use crate::broker::topology::Topology;
use crate::domain::backoff::Policies;
use crate::domain::sealing;
use crate::http::client::Client;
use crate::http::rules::Rules;
use crate::store::Db;
use crate::supervise::{Ended, Supervised};
use crate::telemetry::readiness::Readiness;
use context::Context;

/// What a worker is made of. Adapters are shared by all its tasks.
pub struct Parts {
    pub db: Db,
    pub client: Client,
    pub broker: broker::Settings,
    pub topology: Topology,
    pub policies: Arc<Policies>,
    pub key: sealing::Key,
    /// Which URLs may be sent to.
    pub rules: Rules,
    pub limits: Limits,
    /// Names this worker in the attempts table and in the broker's list of connections.
    pub name: String,
    pub readiness: Readiness,
}

/// For messages under way, once they are abandoned.
const LAST_WORD: Duration = Duration::from_secs(1);

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
    let ends = consume::Ends { stop, abandon };
    let worked = tasks.during(consume::run(context.clone(), readiness, ends), &over).await;
    over.cancel();
    // What is abandoned has a last word to say.
    context.under_way.close();
    let _ = tokio::time::timeout(LAST_WORD, context.under_way.wait()).await;
    drop(tasks);
    publisher.close().await;
    worked
}

/// The long-lived tasks, and what all of them share.
fn start(parts: Parts, publisher: Publisher, tasks: &mut Supervised, over: CancellationToken) -> Arc<Context> {
    let (db, policies, helpers, abandon) = (parts.db, parts.policies, tasks.helpers(), over.clone());
    let (endpoints, finding) = endpoints::EndpointCache::new(db.clone(), parts.key, parts.rules, abandon.clone());
    tasks.spawn("endpoint changes", endpoints.clone().keep_fresh(parts.limits.listen, abandon.clone()));
    tasks.spawn("endpoint reader", finding);
    let (rows, reading) = coalesce::row_reader(db.clone(), abandon.clone());
    tasks.spawn("row reader", reading);
    let (holds, holding) = coalesce::holder(db.clone(), abandon.clone());
    tasks.spawn("holder", holding);
    let gates = gates::Gates::default();
    tasks.spawn("reports", reports::keep_reporting(db.clone(), parts.name.clone(), gates.clone(), over));
    let quarantine = Arc::new(quarantine::Quarantine::new(db.clone(), abandon.clone()));
    let successors = Arc::new(successors::Successors {
        publisher,
        broker: parts.broker,
        topology: parts.topology,
        holds: holds.clone(),
        abandon: abandon.clone(),
    });
    let circuits = circuits::Circuits {
        db: db.clone(),
        endpoints: endpoints.clone(),
        rules: parts.limits.circuit,
        abandon: abandon.clone(),
    };
    let disabling = disabling::Disabling {
        db: db.clone(),
        endpoints: endpoints.clone(),
        helpers: helpers.clone(),
        abandon: abandon.clone(),
        under_way: disabling::UnderWay::default(),
    };
    let (recorder, jobs) = recorder::Recorder::new();
    let context = Arc::new(Context {
        name: parts.name,
        limits: parts.limits,
        policies,
        db,
        client: parts.client,
        endpoints,
        gates,
        circuits,
        disabling,
        quarantine,
        replicas: replicas::Replicas::default(),
        locks: locks::DeliveryLocks::default(),
        rows,
        holds,
        recorder,
        successors,
        under_way: TaskTracker::new(),
        helpers,
        abandon,
    });
    tasks.spawn("recorder", recording(&context).run(jobs));
    context
}

/// What records finished attempts, and goes on with what follows from them.
fn recording(context: &Context) -> recorder::Recording {
    let (quarantine, helpers, abandon) = (&context.quarantine, &context.helpers, &context.abandon);
    let ledger = job::Ledger { db: context.db.clone(), worker: context.name.clone() };
    let settler = Arc::new(settler::Settler {
        db: context.db.clone(),
        policies: context.policies.clone(),
        quarantine: quarantine.clone(),
        disabling: context.disabling.clone(),
        successors: context.successors.clone(),
        abandon: abandon.clone(),
    });
    let holds = context.holds.clone();
    let apart =
        apart::Apart::new(ledger.clone(), settler.clone(), quarantine.clone(), holds, helpers.clone(), abandon.clone());
    recorder::Recording { ledger, settler, apart, helpers: helpers.clone(), abandon: abandon.clone() }
}
