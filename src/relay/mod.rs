//! The relay: moves committed outbox rows into the broker, and releases what PostgreSQL held.
//!
//! Any number of relays may run. Each holds an advisory lock under an identity of its own; the batches of one whose
//! session is gone are adopted. One of them leads: it adopts, releases and makes partitions.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio_util::sync::CancellationToken;

mod adopt;
mod circuits;
mod claimer;
mod context;
pub mod dead_letters;
mod declare;
mod duties;
mod duty;
mod ended;
mod gauges;
mod held;
mod held_endpoints;
mod idle;
mod leader;
mod markers;
mod publish;
pub mod reconcile;
mod release;
mod room;
mod sender;
mod waiting;

pub use context::{Grace, Limits};
pub use declare::{DeclareFailure, declare};

use context::Context;

use crate::broker;
use crate::broker::publisher::Publisher;
use crate::broker::topology::Topology;
use crate::domain::backoff::Policies;
use crate::reconnect::Backoff;
use crate::store::claim::Ceilings;
use crate::store::locks::Session;
use crate::store::{self, Db, StoreError};
use crate::supervise::{Ended, Supervised};
use crate::telemetry::readiness::Readiness;

pub struct Parts {
    /// For everything but the claim.
    pub db: Db,
    /// For the claim, which may commit asynchronously.
    pub claim_db: Db,
    /// For the session that holds the relay's locks.
    pub session: store::Options,
    pub broker: broker::Settings,
    pub topology: Topology,
    pub policies: Arc<Policies>,
    pub ceilings: Ceilings,
    pub limits: Limits,
    pub readiness: Readiness,
}

/// Why a relay cannot go on, however often it tries.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error(transparent)]
    Task(#[from] Ended),
    #[error(transparent)]
    Session(#[from] StoreError),
}

/// Relays until `stop`; then finishes the publishes under way, unless `abandon` ends the grace period first.
pub async fn run(parts: Parts, stop: CancellationToken, abandon: CancellationToken) -> Result<(), Fault> {
    let publisher = Publisher::new(parts.broker.clone(), parts.topology.names.clone(), "posthaste relay publish");
    let context = Arc::new(Context {
        db: parts.db,
        claim_db: parts.claim_db,
        publisher,
        broker: parts.broker,
        topology: parts.topology,
        policies: parts.policies,
        ceilings: parts.ceilings,
        limits: parts.limits,
        readiness: parts.readiness,
        held: held::Held::default(),
    });
    let mut tasks = Supervised::default();
    tasks.spawn("gauges", gauges::run(context.clone(), stop.clone()));
    let ended = tasks.during(sessions(&context, &parts.session, &stop, &abandon), &stop).await;
    context.publisher.close().await;
    ended?
}

/// One session after the other, under a new identity each.
async fn sessions(
    context: &Arc<Context>,
    options: &store::Options,
    stop: &CancellationToken,
    abandon: &CancellationToken,
) -> Result<(), Fault> {
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let error = match session(context, options, stop, abandon, &mut backoff).await {
            Ok(()) => return Ok(()),
            Err(Fault::Session(error)) if !matches!(error, StoreError::SharedSession) => error,
            Err(fault) => return Err(fault),
        };
        context.readiness.not_ready("database", error.to_string());
        let failures = backoff.failures();
        tracing::warn!(%error, failures, "the relay lost its session; starting again under a new identity");
        backoff.pause_until(stop).await;
    }
    Ok(())
}

/// One life of the relay: as long as the session that holds its identity.
async fn session(
    context: &Arc<Context>,
    options: &store::Options,
    stop: &CancellationToken,
    abandon: &CancellationToken,
    backoff: &mut Backoff,
) -> Result<(), Fault> {
    let (session, relay) = open_session(options).await?;
    tracing::info!(relay, "relaying");
    context.readiness.ready("database");
    backoff.reset();
    let over = stop.child_token();
    let leads = Arc::new(AtomicBool::new(false));
    let mut tasks = Supervised::default();
    tasks.spawn("claimer", claimer::run(context.clone(), relay.into(), over.clone(), abandon.clone()));
    tasks.spawn("release", release::run(context.clone(), relay.into(), leads.clone(), over.clone()));
    tasks.spawn("duties", duties::run(context.clone(), relay.into(), leads.clone(), over.clone()));
    let kept = tasks.during(leader::run(context, &session, relay, &leads, over.clone()), &over).await?;
    over.cancel();
    // The claimer finishes its publishes; the lock is still ours meanwhile, unless the session is what was lost.
    tasks.finish().await?;
    session.close().await;
    Ok(kept?)
}

/// A session under a random identity that no living relay has. What is listed under it is adopted when the session ends.
pub async fn open_session(options: &store::Options) -> Result<(Session, i32), StoreError> {
    let session = Session::open(options).await?;
    loop {
        let relay = rand::random_range(1..i32::MAX);
        if session.try_relay(relay).await? {
            return Ok((session, relay));
        }
    }
}
