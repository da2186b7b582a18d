//! The relay's own session: proof of life for every relay, and of the one that leads. It adopts, since that takes locks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::{Context, adopt};
use crate::store::StoreError;
use crate::store::locks::{Role, Session};

const TICK: Duration = Duration::from_millis(200);
/// How soon the batches of a dead relay are adopted.
const ADOPT: Duration = Duration::from_secs(1);

/// Fails when the session is lost: then this relay must not claim any more under its identity.
pub(super) async fn run(
    context: &Context,
    session: &mut Session,
    relay: i32,
    leads: &AtomicBool,
    stop: CancellationToken,
) -> Result<(), StoreError> {
    let mut last_adoption = None;
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
        session.ping().await?;
        if !leads.load(Ordering::Relaxed) {
            if !session.try_role(Role::Leader).await? {
                continue;
            }
            leads.store(true, Ordering::Relaxed);
            tracing::info!(relay, "leading");
        }
        if elapsed(last_adoption, ADOPT) {
            adopt::of_the_gone(context, session, relay, &stop).await?;
            last_adoption = Some(Instant::now());
        }
    }
}

fn elapsed(last: Option<Instant>, interval: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= interval)
}
