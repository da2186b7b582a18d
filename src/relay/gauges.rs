//! Gauges of shared state, exported by every relay: aggregate with max.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::held::Held;
use crate::broker::connection::Link;
use crate::broker::declare::message_count;
use crate::broker::silence::{self, Silence};
use crate::broker::topology::Names;
use crate::broker::{BrokerError, Settings};
use crate::store::{Db, circuits, held, outbox, pauses, stats};
use crate::telemetry::metrics;
use crate::telemetry::readiness::Readiness;

const INTERVAL: Duration = Duration::from_secs(2);
/// What takes long, under a snapshot that somebody holds or in an outage, is asked after twenty times as long again.
const DUTY: u32 = 20;
const RARELY: Duration = Duration::from_secs(30);
/// Held deliveries are counted up to here.
const MOST_HELD: i64 = 100_000;

/// Where they are read.
pub(super) struct Sources {
    pub db: Db,
    pub broker: Settings,
    pub names: Names,
    pub held: Arc<Held>,
    pub silence: Arc<Silence>,
    pub readiness: Readiness,
}

pub(super) async fn run(sources: Sources, stop: CancellationToken) {
    let mut link = None;
    let mut next = Instant::now();
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return,
        }
        if Instant::now() >= next {
            let began = Instant::now();
            let pause = if database(&sources).await { began.elapsed() * DUTY } else { Duration::ZERO };
            next = Instant::now() + pause.min(RARELY);
        }
        let was_silent = sources.silence.is_on();
        if let Err(error) = sources.silence.ask(broker(&sources, &mut link)).await {
            tracing::debug!(%error, "cannot read the depths of the queues");
            link = None;
        }
        match (was_silent, sources.silence.is_on()) {
            (_, true) => sources.readiness.not_ready("broker", silence::REASON),
            // What else may be in the way, who publishes says.
            (true, false) => sources.readiness.ready("broker"),
            (false, false) => {}
        }
    }
}

/// False: there is no database.
async fn database(Sources { db, held: scanned, readiness, .. }: &Sources) -> bool {
    match outbox::backlog(db).await {
        Ok(backlog) => {
            readiness.ready("database");
            let age = Duration::from_secs_f64(backlog.oldest_age_seconds.max(0.0));
            metrics::outbox(backlog.pending.max(0) as u64, age);
        }
        Err(error) => {
            readiness.not_ready("database", error.to_string());
            return false;
        }
    }
    if let Ok(open) = circuits::count_open(db).await {
        metrics::circuits_open(open.max(0) as u64);
    }
    if let Ok(paused) = pauses::count(db).await {
        let behind = scanned.behind().len() as u64;
        let known = paused.iter().map(|(reason, count)| (reason.as_str(), count.max(&0).unsigned_abs()));
        metrics::endpoint_pauses(&known.chain([("behind", behind)]).collect());
    }
    if let Ok(watched) = stats::watched(db).await {
        let age = Duration::try_from_secs_f64(watched.unconfirmed_oldest_age_seconds).unwrap_or_default();
        let left_out = watched.operations_left_out.max(0) as u64;
        metrics::watched(watched.set_aside.max(0) as u64, age, watched.partition_days_ahead, left_out);
    }
    if let Ok(held) = held::count(db, &scanned.days(), MOST_HELD).await {
        metrics::held_deliveries(held.max(0) as u64);
    }
    true
}

async fn broker(Sources { broker, names, .. }: &Sources, link: &mut Option<Link>) -> Result<(), BrokerError> {
    let link = match link {
        Some(open) if open.is_connected() => open,
        closed => closed.insert(Link::open(broker, "posthaste relay gauges").await?),
    };
    for (label, queue) in [("deliver", names.deliver_queue()), ("retry", names.retry_queue()), ("dead", names.dead())] {
        let depth = u64::from(message_count(link, &queue).await?.unwrap_or(0));
        metrics::queue_depth(label, depth);
        if label == "dead" {
            metrics::dead_letter_depth(depth);
        }
    }
    Ok(())
}
