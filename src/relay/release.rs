//! Release: held deliveries that may go on, each endpoint's at the pace that it takes them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Context, letters, publish};
use crate::domain::circuit::State;
use crate::domain::delivery::DeadReason;
use crate::domain::ids::DeliveryKey;
use crate::domain::pace::{Mode, Outcomes, Pace};
use crate::store::release::{self, Became, Holder, Let};
use crate::store::{StoreError, relay_batches, requeue};
use crate::telemetry::metrics;

/// Endpoints with held deliveries that are looked at in one tick.
const HOLDERS: i64 = 10_000;
/// The most that one statement releases, and that is gathered before it is published.
const RELEASE: u32 = 500;
/// Deliveries let go to find out whether an endpoint is back.
const PROBES: u32 = 3;
/// Released deliveries whose outcome is looked up in one tick.
const LOOK_UP: usize = 5_000;
/// Held deliveries with times of their own come back at these times; the pace only evens out what bunches up.
const ABOVE_LIMIT: f64 = 1.2;
/// The pace of an endpoint that has held nothing for this long is forgotten.
const FORGET: Duration = Duration::from_secs(60);

pub struct Releaser {
    began: Instant,
    endpoints: HashMap<Uuid, Entry>,
}

struct Entry {
    pace: Pace,
    mode: Mode,
    ceiling: f64,
    /// Let go, and not seen with an outcome.
    on_the_way: Vec<Let>,
    seen: Instant,
}

impl Default for Releaser {
    fn default() -> Releaser {
        Releaser { began: Instant::now(), endpoints: HashMap::new() }
    }
}

impl Releaser {
    pub(super) async fn step(
        &mut self,
        context: &Context,
        relay: i64,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        self.learn(context).await?;
        let (mut ids, mut messages) = (Vec::new(), Vec::new());
        // What is interrupted below stays listed, and is adopted.
        for holder in release::holders(&context.db, HOLDERS).await? {
            if !holder.exists {
                bury_removed(context, holder.endpoint_id).await?;
                continue;
            }
            let Some(mode) = mode(&holder) else { continue };
            let limit = self.allowance(&holder, mode, f64::from(context.limits.release_rate));
            if limit == 0 || !holder.due {
                continue;
            }
            let batch = release::release(&context.db, relay, holder.endpoint_id, limit.into()).await?;
            let Some(id) = batch.id else { continue };
            tracing::debug!(endpoint_id = %holder.endpoint_id, deliveries = batch.messages.len(), "released");
            if let Some(entry) = self.endpoints.get_mut(&holder.endpoint_id) {
                entry.on_the_way.extend(batch.messages.iter().map(|m| Let { key: m.key(), attempts: m.attempt - 1 }));
            }
            ids.push(id);
            messages.extend(batch.messages);
            if messages.len() >= RELEASE as usize {
                tokio::select! {
                    () = publish::due(context, std::mem::take(&mut messages)) => {}
                    () = stop.cancelled() => return Ok(()),
                }
            }
        }
        tokio::select! {
            () = publish::in_parts(context, messages) => {}
            () = stop.cancelled() => return Ok(()),
        }
        relay_batches::unlist(&context.db, &ids).await?;
        self.endpoints.retain(|_, entry| !entry.on_the_way.is_empty() || entry.seen.elapsed() < FORGET);
        Ok(())
    }

    fn allowance(&mut self, holder: &Holder, mode: Mode, release_rate: f64) -> u32 {
        let now_ms = self.began.elapsed().as_millis() as u64;
        let ceiling = holder.rate_limit.map_or(release_rate, |limit| limit * ABOVE_LIMIT);
        let fresh = || Entry {
            pace: Pace::new(mode, ceiling, now_ms),
            mode,
            ceiling,
            on_the_way: Vec::new(),
            seen: Instant::now(),
        };
        let entry = self.endpoints.entry(holder.endpoint_id).or_insert_with(fresh);
        // It has failed since it was last let go at full pace.
        if entry.mode == Mode::Full && mode != Mode::Full {
            entry.pace = Pace::new(mode, ceiling, now_ms);
        }
        (entry.mode, entry.ceiling, entry.seen) = (mode, ceiling, Instant::now());
        entry.pace.take(mode, entry.on_the_way.len() as u32, now_ms).min(RELEASE)
    }

    /// Looks what became of what was let go.
    async fn learn(&mut self, context: &Context) -> Result<(), StoreError> {
        let open: Vec<Let> = self.endpoints.values().flat_map(|e| &e.on_the_way).take(LOOK_UP).copied().collect();
        if open.is_empty() {
            return Ok(());
        }
        let became: HashMap<DeliveryKey, Became> = release::became(&context.db, &open).await?.into_iter().collect();
        for entry in self.endpoints.values_mut() {
            let outcomes = entry.settle(&became);
            entry.pace.learn(entry.mode, outcomes, entry.ceiling);
        }
        Ok(())
    }
}

impl Entry {
    fn settle(&mut self, became: &HashMap<DeliveryKey, Became>) -> Outcomes {
        let mut outcomes = Outcomes::default();
        self.on_the_way.retain(|delivery| {
            match became.get(&delivery.key) {
                Some(Became::Taken) => outcomes.taken += 1,
                Some(Became::Failed) => outcomes.failed += 1,
                Some(Became::Back) => outcomes.back += 1,
                None => return true,
            }
            false
        });
        outcomes
    }
}

/// `None`: nothing may be let go.
fn mode(holder: &Holder) -> Option<Mode> {
    match (holder.enabled, holder.circuit()) {
        (false, _) | (_, State::Open) => None,
        (true, State::HalfOpen) => Some(Mode::Probe(PROBES)),
        (true, State::Closed) if holder.circuit_trips > 0 => Some(Mode::Ramp),
        (true, State::Closed) => Some(Mode::Full),
    }
}

/// An endpoint removed by plain SQL leaves held deliveries that nothing else would ever look at.
async fn bury_removed(context: &Context, endpoint: Uuid) -> Result<(), StoreError> {
    let ended = requeue::bury_removed(&context.db, endpoint, RELEASE.into()).await?;
    for (_, snapshot) in &ended {
        metrics::dead_letter(DeadReason::EndpointRemoved);
        tracing::warn!(event_id = %snapshot.key.event_id, endpoint_id = %endpoint, "dead: the endpoint was removed");
    }
    letters::write(&context.publisher, ended).await;
    Ok(())
}
