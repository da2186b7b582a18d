//! The relay's own session: proof of life for every relay, and of the one that leads. It adopts, since that takes locks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::adopt;
use super::duty::Ticker;
use super::publish::Publishing;
use crate::store::StoreError;
use crate::store::locks::{Role, Session};
use crate::telemetry::metrics;
use crate::telemetry::names::Duty;

const TICK: Duration = Duration::from_millis(200);
/// How often a session is asked whether it has its locks.
const LOCKS: Duration = Duration::from_secs(1);
/// How soon another relay leads when the leader is gone.
const LEAD: Duration = Duration::from_millis(200);
/// How soon it adopts what a dead relay has left.
const ADOPT: Duration = Duration::from_secs(1);

/// Fails when the session is lost: then this relay must not claim any more under its identity. Watched beside what the
/// leader does with the session, which waits for the broker.
pub(super) async fn run(
    publishing: &Publishing,
    session: &Session,
    relay: i32,
    leads: &AtomicBool,
    stop: CancellationToken,
) -> Result<(), StoreError> {
    metrics::leads(false);
    let kept = tokio::select! {
        lost = watch(session) => lost,
        () = lead(publishing, session, relay, leads, &stop) => Ok(()),
        () = stop.cancelled() => Ok(()),
    };
    metrics::leads(false);
    kept
}

async fn watch(session: &Session) -> Result<(), StoreError> {
    let (mut tick, mut locks) = (every(TICK), every(LOCKS));
    loop {
        tokio::select! {
            _ = tick.tick() => session.ping().await?,
            _ = locks.tick() => session.must_hold().await?,
        }
    }
}

/// Adopts from when this relay leads. An error of the session is for `watch` to judge; a batch that cannot be adopted ends
/// nothing else.
async fn lead(publishing: &Publishing, session: &Session, relay: i32, leads: &AtomicBool, stop: &CancellationToken) {
    let mut ticker = Ticker::new(Duty::Adoption, LEAD, leads, stop);
    while !leads.load(Ordering::Relaxed) && ticker.due().await {
        let taken = session.try_role(Role::Leader).await;
        if let Ok(true) = taken {
            leads.store(true, Ordering::Relaxed);
            metrics::leads(true);
            tracing::info!(relay, "leading");
        }
        ticker.done(taken.map(drop));
    }
    let mut ticker = Ticker::new(Duty::Adoption, ADOPT, leads, stop);
    while ticker.due().await {
        ticker.done(adopt::of_the_gone(publishing, session, relay, stop).await);
    }
}

fn every(period: Duration) -> tokio::time::Interval {
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    tick
}
