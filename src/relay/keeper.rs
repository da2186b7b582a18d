//! The relay's own session: proof of life for every relay, and the duties of the one that leads.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::markers::Markers;
use super::reconcile::Reconciler;
use super::{Context, letters, publish};
use crate::store::locks::{Role, Session};
use crate::store::release::{self, Holder};
use crate::store::requeue;
use crate::store::{StoreError, idempotency, partitions, relay_batches, suspects};
use crate::telemetry::metrics;

const TICK: Duration = Duration::from_millis(200);
/// How soon the batches of a dead relay are adopted.
const ADOPT: Duration = Duration::from_secs(1);
const PARTITIONS: Duration = Duration::from_secs(3600);
const BATCHES: i64 = 100;
/// Endpoints with held deliveries that are looked at in one tick.
const HOLDERS: i64 = 10_000;
/// The most that one statement releases.
const RELEASE: i64 = 500;

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
            adopt(context, session, relay, &stop).await?;
            last_adoption = Some(Instant::now());
        }
        release_all(context, relay.into(), &stop).await?;
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
            suspects::remove_old(&context.db).await?;
            last_partitions = Instant::now();
        }
    }
}

fn elapsed(last: Option<Instant>, interval: Duration) -> bool {
    last.is_none_or(|last| last.elapsed() >= interval)
}

/// Publishes what relays that are gone have listed and not seen confirmed.
async fn adopt(
    context: &Context,
    session: &mut Session,
    relay: i32,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    for other in relay_batches::other_relays(&context.db, relay.into()).await? {
        let Ok(lock) = i32::try_from(other) else { continue };
        if !session.try_relay(lock).await? {
            continue;
        }
        let adopted = adopt_batches(context, other, stop).await;
        session.release_relay(lock).await?;
        adopted?;
    }
    Ok(())
}

async fn adopt_batches(context: &Context, other: i64, stop: &CancellationToken) -> Result<(), StoreError> {
    let batches = relay_batches::of_relay(&context.db, other, BATCHES).await?;
    for batch in batches {
        let messages = relay_batches::unfinished(&context.db, batch).await?;
        tracing::info!(relay = other, batch, messages = messages.len(), "adopting a batch of a relay that is gone");
        tokio::select! {
            () = publish::due(context, messages) => {}
            () = stop.cancelled() => return Ok(()),
        }
        relay_batches::unlist(&context.db, &[batch]).await?;
    }
    Ok(())
}

/// Lets held deliveries of enabled endpoints go, each endpoint at its own bounded rate.
async fn release_all(context: &Context, relay: i64, stop: &CancellationToken) -> Result<(), StoreError> {
    let share = f64::from(context.limits.release_rate) * TICK.as_secs_f64();
    let limit = (share.ceil() as i64).clamp(1, RELEASE);
    for holder in release::holders(&context.db, HOLDERS).await? {
        match holder {
            Holder { exists: false, endpoint_id, .. } => bury_removed(context, endpoint_id).await?,
            Holder { enabled: true, endpoint_id, .. } => {
                let batch = release::release(&context.db, relay, endpoint_id, limit).await?;
                let Some(id) = batch.id else { continue };
                tracing::debug!(%endpoint_id, deliveries = batch.messages.len(), "released");
                // What is interrupted here stays listed, and is adopted.
                tokio::select! {
                    () = publish::due(context, batch.messages) => {}
                    () = stop.cancelled() => return Ok(()),
                }
                relay_batches::unlist(&context.db, &[id]).await?;
            }
            Holder { .. } => {}
        }
    }
    Ok(())
}

/// An endpoint removed by plain SQL leaves held deliveries that nothing else would ever look at.
async fn bury_removed(context: &Context, endpoint: uuid::Uuid) -> Result<(), StoreError> {
    let ended = requeue::bury_removed(&context.db, endpoint, RELEASE).await?;
    for (_, snapshot) in &ended {
        metrics::dead_letter(crate::domain::delivery::DeadReason::EndpointRemoved);
        tracing::warn!(event_id = %snapshot.key.event_id, endpoint_id = %endpoint, "dead: the endpoint was removed");
    }
    letters::write(&context.publisher, ended).await;
    Ok(())
}
