//! The worker: consume, ask the gate, POST, decide, settle.
//!
//! Any number of workers may run. Each has a share of both work queues, the one of first attempts and the one of retries, so
//! that a wave of retries never starves first attempts. In each share prompt and slow requests have rooms of their own, so
//! that endpoints that hang do not starve others.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

mod access;
mod ack_book;
mod acks;
mod alarm;
mod apart;
mod assembly;
mod attempt;
mod attempt_line;
mod bytes;
mod circuits;
mod coalesce;
mod consume;
mod consumed;
mod database;
mod disabling;
mod ending;
mod endpoints;
mod gatekeeper;
mod gates;
mod job;
mod known;
mod limits;
mod locks;
mod markers;
mod parts;
mod payload;
mod processing;
mod quarantine;
mod queue_share;
mod reactions;
mod ready;
mod recorder;
mod refused;
mod replicas;
mod reports;
mod rooms;
mod row_check;
mod running;
mod seen;
mod sender;
mod settler;
mod stall;
mod successors;
mod trace;

pub use attempt::test_request;
pub use endpoints::load;
pub use limits::Limits;
pub use parts::Parts;

use crate::broker::publisher::Publisher;
use crate::supervise::{Ended, Supervised};

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
    let mut tasks = Supervised::default();
    let consumer = assembly::start(&parts, publisher.clone(), &mut tasks, &over);
    tasks.spawn("alarm watch", alarm::watch(publisher.clone(), parts.readiness.clone(), over.clone()));
    let ends = consume::Ends { stop, abandon };
    let worked = tasks.during(consumer.run(parts.readiness, ends), &over).await;
    over.cancel();
    // What is abandoned has a last word to say.
    let _ = tokio::time::timeout(LAST_WORD, consumer.running.ended()).await;
    drop(tasks);
    publisher.close().await;
    worked
}
