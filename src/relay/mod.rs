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
mod limits;
mod markers;
mod old_dead_letters;
mod publish;
pub mod reconcile;
mod release;
pub mod retention;
mod room;
mod sender;
mod top_endpoints;
mod trace;
mod waiting;

pub use declare::{DeclareFailure, declare};
pub use limits::{Grace, Limits};

use claimer::Claiming;
use duties::Duties;
use ended::Ending;
use held::Held;
use idle::Idle;
use old_dead_letters::OldDeadLetters;
use publish::Publishing;
use release::Releasing;
use retention::Retention;
use top_endpoints::TopEndpoints;

use crate::broker;
use crate::broker::publisher::Publisher;
use crate::broker::silence::Silence;
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

/// What outlives its sessions, and from which the parts of each are made.
struct Relay {
    publishing: Arc<Publishing>,
    held: Arc<Held>,
    silence: Arc<Silence>,
    claim_db: Db,
    policies: Arc<Policies>,
    ceilings: Ceilings,
    limits: Limits,
    readiness: Readiness,
}

/// Relays until `stop`; then finishes the publishes under way, unless `abandon` ends the grace period first.
pub async fn run(parts: Parts, stop: CancellationToken, abandon: CancellationToken) -> Result<(), Fault> {
    let Parts { db, claim_db, session, broker, topology, policies, ceilings, limits, readiness } = parts;
    let publisher = Publisher::new(broker.clone(), topology.names.clone(), "posthaste relay publish");
    let (held, silence) = (Arc::new(Held::default()), Arc::new(Silence::default()));
    let sources = gauges::Sources {
        db: db.clone(),
        broker: broker.clone(),
        names: topology.names.clone(),
        held: held.clone(),
        silence: silence.clone(),
        readiness: readiness.clone(),
    };
    let publishing = Arc::new(Publishing { db, publisher: publisher.clone(), broker, topology });
    let relay = Relay { publishing, held, silence, claim_db, policies, ceilings, limits, readiness };
    let mut tasks = Supervised::default();
    tasks.spawn("gauges", gauges::run(sources, stop.clone()));
    let ended = tasks.during(sessions(&relay, &session, &stop, &abandon), &stop).await;
    publisher.close().await;
    ended?
}

impl Relay {
    fn claiming(&self) -> (Claiming, Idle) {
        let Limits { batch_size, poll_interval, listen, .. } = self.limits;
        let (db, ceilings) = (self.claim_db.clone(), self.ceilings.clone());
        let (held, silence) = (self.held.clone(), self.silence.clone());
        let idle = Idle::new(self.publishing.db.clone(), listen, poll_interval);
        (Claiming { db, ceilings, held, silence, batch_size, poll_interval }, idle)
    }

    fn releasing(&self) -> Releasing {
        let Limits { held_ttl, max_in_flight, places, .. } = self.limits;
        let publishing = self.publishing.clone();
        let ending = Ending { db: publishing.db.clone(), publisher: publishing.publisher.clone(), held_ttl };
        Releasing { publishing, found: self.held.clone(), ending, max_in_flight, places }
    }

    fn duties(&self, session: &store::Options) -> Duties {
        let Limits { circuits, disable_after, reconcile_interval, grace, retention, top_endpoints, .. } = self.limits;
        let Publishing { db, publisher, broker, topology } = self.publishing.as_ref();
        let prefix = topology.names.prefix();
        Duties {
            circuits: circuits::Circuits::new(db.clone(), circuits, disable_after),
            markers: markers::Markers::new(db.clone(), publisher.clone(), reconcile_interval),
            reconciler: reconcile::Reconciler::new(self.publishing.clone(), grace, reconcile_interval),
            old_dead_letters: OldDeadLetters {
                db: db.clone(),
                session: session.clone(),
                broker: broker.clone(),
                names: topology.names.clone(),
            },
            retention: Retention { db: db.clone(), publisher: publisher.clone(), rule: retention },
            top_endpoints: TopEndpoints { db: db.clone(), held: self.held.clone(), most: top_endpoints },
            waiting: waiting::Waiting::new(db.clone(), broker.clone(), prefix, self.policies.clone()),
            db: db.clone(),
        }
    }
}

/// One session after the other, under a new identity each.
async fn sessions(
    relay: &Relay,
    options: &store::Options,
    stop: &CancellationToken,
    abandon: &CancellationToken,
) -> Result<(), Fault> {
    let mut backoff = Backoff::default();
    while !stop.is_cancelled() {
        let error = match session(relay, options, stop, abandon, &mut backoff).await {
            Ok(()) => return Ok(()),
            Err(Fault::Session(error)) if !matches!(error, StoreError::SharedSession) => error,
            Err(fault) => return Err(fault),
        };
        relay.readiness.not_ready("database", error.to_string());
        let failures = backoff.failures();
        tracing::warn!(%error, failures, "the relay lost its session; starting again under a new identity");
        backoff.pause_until(stop).await;
    }
    Ok(())
}

/// One life of the relay: as long as the session that holds its identity.
async fn session(
    relay: &Relay,
    options: &store::Options,
    stop: &CancellationToken,
    abandon: &CancellationToken,
    backoff: &mut Backoff,
) -> Result<(), Fault> {
    let (session, id) = open_session(options).await?;
    tracing::info!(relay = id, "relaying");
    relay.readiness.ready("database");
    backoff.reset();
    let over = stop.child_token();
    let leads = Arc::new(AtomicBool::new(false));
    let mut tasks = Supervised::default();
    let (publishing, readiness) = (relay.publishing.clone(), relay.readiness.clone());
    let claiming = claimer::run(relay.claiming(), publishing, readiness, id.into(), over.clone(), abandon.clone());
    tasks.spawn("claimer", claiming);
    tasks.spawn("release", release::run(relay.releasing(), id.into(), leads.clone(), over.clone()));
    tasks.spawn("duties", duties::run(relay.duties(options), id.into(), leads.clone(), over.clone()));
    let leading = leader::run(&relay.publishing, &session, id, &leads, over.clone());
    let kept = tasks.during(leading, &over).await?;
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
