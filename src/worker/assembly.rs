//! Putting a worker together: each part gets what it needs, and the long-lived tasks are started.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::access::Access;
use super::apart::Apart;
use super::bytes::{MOST_BYTES, UnackedBytes};
use super::circuits::Circuits;
use super::coalesce::{self, Holder};
use super::consume::Consumer;
use super::disabling::{Disabling, UnderWay};
use super::ending::Ending;
use super::endpoints::EndpointCache;
use super::gatekeeper::Gatekeeper;
use super::gates::Gates;
use super::job::Ledger;
use super::locks::DeliveryLocks;
use super::markers::Markers;
use super::parts::Parts;
use super::payload::Payloads;
use super::processing::{Attempts, Deliveries, Processor};
use super::quarantine::Quarantine;
use super::queue_share::QueueShare;
use super::reactions::Reactions;
use super::recorder::{Recorder, Recording};
use super::replicas::Replicas;
use super::reports;
use super::row_check::RowCheck;
use super::running::Running;
use super::sender::Sender;
use super::settler::Settler;
use super::successors::Successors;
use crate::broker::publisher::Publisher;
use crate::broker::topology::Names;
use crate::domain::places::Capacity;
use crate::domain::work_queue::WorkQueue;
use crate::supervise::{Helpers, Supervised};

/// What takes messages. Everything else is reached from it, or is one of the tasks.
pub fn start(parts: &Parts, publisher: Publisher, tasks: &mut Supervised, abandon: &CancellationToken) -> Consumer {
    let (endpoints, finding) =
        EndpointCache::new(parts.db.clone(), parts.keys.clone(), parts.rules.clone(), abandon.clone());
    tasks.spawn("endpoint changes", endpoints.clone().keep_fresh(parts.limits.listen, abandon.clone()));
    tasks.spawn("endpoint reader", finding);
    let (reader, reading) = coalesce::row_reader(parts.db.clone(), abandon.clone());
    tasks.spawn("row reader", reading);
    let (payloads, reading_payloads) = coalesce::payload_reader(parts.db.clone(), abandon.clone());
    tasks.spawn("payload reader", reading_payloads);
    let (holds, holding) = coalesce::holder(parts.db.clone(), abandon.clone());
    tasks.spawn("holder", holding);
    let gates = Gates::default();
    let reporting = reports::keep_reporting(parts.db.clone(), parts.name.clone(), gates.clone(), abandon.clone());
    tasks.spawn("reports", reporting);
    let access = Arc::new(Access { broker: parts.broker.clone(), topology: parts.topology.clone() });
    let successors =
        Arc::new(Successors { publisher, access: access.clone(), holds: holds.clone(), abandon: abandon.clone() });
    let quarantine = Arc::new(Quarantine::new(parts.db.clone(), abandon.clone()));
    let disabling = Disabling {
        db: parts.db.clone(),
        endpoints: endpoints.clone(),
        helpers: tasks.helpers(),
        abandon: abandon.clone(),
        under_way: UnderWay::default(),
    };
    let settler = settler(parts, disabling.clone(), &quarantine, &successors, abandon);
    let (recorder, jobs) = Recorder::new();
    tasks.spawn("recorder", recording(parts, settler, &holds, tasks.helpers(), abandon).run(jobs));

    let (replicas, locks) = (Arc::new(Replicas::default()), DeliveryLocks::default());
    let max_in_flight = parts.limits.max_in_flight;
    let gatekeeper = Gatekeeper { endpoints, disabling, gates, replicas: replicas.clone(), max_in_flight };
    let rows = Arc::new(RowCheck { reader, policies: parts.policies.clone(), successors: successors.clone() });
    let deliveries = Deliveries {
        locks: locks.clone(),
        rows: rows.clone(),
        attempts: attempts(parts, gatekeeper, Payloads(payloads), quarantine.clone(), abandon),
        recorder,
        ending: Ending { db: parts.db.clone(), holds, rows, quarantine, abandon: abandon.clone() },
    };
    let markers = Markers { db: parts.db.clone(), abandon: abandon.clone() };
    Consumer {
        name: parts.name.clone(),
        access,
        shares: shares(&parts.topology.names, parts.limits.capacity),
        replicas,
        running: Running::new(tasks.helpers(), locks),
        processor: Arc::new(Processor { markers, successors, deliveries }),
    }
}

fn settler(
    parts: &Parts,
    disabling: Disabling,
    quarantine: &Arc<Quarantine>,
    successors: &Arc<Successors>,
    abandon: &CancellationToken,
) -> Arc<Settler> {
    Arc::new(Settler {
        db: parts.db.clone(),
        policies: parts.policies.clone(),
        quarantine: quarantine.clone(),
        disabling,
        successors: successors.clone(),
        log_delivered: parts.limits.log_delivered,
        abandon: abandon.clone(),
    })
}

/// What records finished attempts, and goes on with what follows from them.
fn recording(
    parts: &Parts,
    settler: Arc<Settler>,
    holds: &Holder,
    helpers: Helpers,
    abandon: &CancellationToken,
) -> Recording {
    let ledger = Ledger { db: parts.db.clone(), worker: parts.name.clone() };
    let quarantine = settler.quarantine.clone();
    let apart =
        Apart::new(ledger.clone(), settler.clone(), quarantine, holds.clone(), helpers.clone(), abandon.clone());
    Recording { ledger, settler, apart, helpers, abandon: abandon.clone() }
}

fn attempts(
    parts: &Parts,
    gatekeeper: Gatekeeper,
    payloads: Payloads,
    quarantine: Arc<Quarantine>,
    abandon: &CancellationToken,
) -> Attempts {
    let circuits = Circuits {
        db: parts.db.clone(),
        endpoints: gatekeeper.endpoints.clone(),
        rules: parts.limits.circuit,
        abandon: abandon.clone(),
    };
    let sender = Sender {
        client: parts.client.clone(),
        timeout: parts.limits.timeout,
        quarantine: quarantine.clone(),
        abandon: abandon.clone(),
    };
    let reactions = Reactions { policies: parts.policies.clone(), circuits };
    Attempts { gatekeeper, payloads, quarantine, sender, reactions }
}

fn shares(names: &Names, capacity: Capacity) -> [Arc<QueueShare>; 2] {
    let bytes = UnackedBytes::new(MOST_BYTES);
    let share = |queue, name| Arc::new(QueueShare::new(queue, name, capacity, bytes.clone()));
    [share(WorkQueue::Deliver, names.deliver_queue()), share(WorkQueue::Retry, names.retry_queue())]
}
