//! The relay's own session: proof of life for every relay, and the duties of the one that leads.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::circuits::Circuits;
use super::markers::Markers;
use super::reconcile::Reconciler;
use super::release::Releaser;
use super::{Context, adopt};
use crate::store::locks::{Role, Session};
use crate::store::{StoreError, activity, idempotency, partitions, suspects};

const TICK: Duration = Duration::from_millis(200);
/// How soon the batches of a dead relay are adopted.
const ADOPT: Duration = Duration::from_secs(1);
const PARTITIONS: Duration = Duration::from_secs(3600);

/// Fails when the session is lost: then this relay must not claim any more under its identity.
pub(super) async fn run(
    context: &Context,
    session: &mut Session,
    relay: i32,
    stop: CancellationToken,
) -> Result<(), StoreError> {
    let mut leads = false;
    let mut markers = Markers::default();
    let mut reconciler = Reconciler::default();
    let mut circuits = Circuits::default();
    let mut releaser = Releaser::default();
    let mut last_adoption = None;
    let mut last_partitions = Instant::now();
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = stop.cancelled() => return Ok(()),
        }
        session.ping().await?;
        if !leads {
            leads = session.try_role(Role::Leader).await?;
            if !leads {
                continue;
            }
            tracing::info!(relay, "leading");
        }
        if elapsed(last_adoption, ADOPT) {
            adopt::of_the_gone(context, session, relay, &stop).await?;
            last_adoption = Some(Instant::now());
        }
        circuits.step(context).await?;
        releaser.step(context, relay.into(), &stop).await?;
        let rebuilding = async {
            markers.step(context).await?;
            reconciler.step(context, relay.into()).await
        };
        tokio::select! {
            rebuilt = rebuilding => rebuilt?,
            () = stop.cancelled() => return Ok(()),
        }
        if last_partitions.elapsed() >= PARTITIONS {
            partitions::make_ahead(&context.db).await?;
            idempotency::remove_expired(&context.db).await?;
            activity::prune(&context.db).await?;
            suspects::remove_old(&context.db).await?;
            last_partitions = Instant::now();
        }
    }
}

fn elapsed(last: Option<Instant>, interval: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= interval)
}
