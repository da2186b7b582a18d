//! Release: held deliveries that may go on, each endpoint's as fast as it takes them. A task of its own in every relay: all
//! look which endpoints are behind, and the one that leads lets go.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::duty::Ticker;
use super::ended::{self, Ending};
use super::held::Held;
use super::held_endpoints::{HeldEndpoints, Waiting};
use super::publish::Publishing;
use crate::domain::flows::{Flows, Let};
use crate::domain::message::Message;
use crate::store::days::Day;
use crate::store::{Db, StoreError, relay_batches, release};
use crate::telemetry::names::Duty;

const TICK: Duration = Duration::from_millis(100);
/// What is let go in one tick is in memory until the broker has confirmed it.
const RELEASE_BYTES: usize = 32 << 20;
/// Released deliveries whose outcome is looked up in one tick; more of them take turns.
const LOOK_UP: usize = 2_000;
/// Batches that one recovery publishes again.
const RECOVER: i64 = 20;
/// More than this are let go in shares, one after the other.
const AT_ONCE: u32 = 10;
const SHARES: u32 = 4;
/// A share is published in parts, this long apart: 60 ms of a tick for all shares, and what their statements and confirms take.
const PARTS: usize = 4;
const APART: Duration = Duration::from_millis(5);

/// What it takes to release.
pub(super) struct Releasing {
    pub publishing: Arc<Publishing>,
    /// What the scan finds, for the other parts of the relay.
    pub found: Arc<Held>,
    pub ending: Ending,
    /// Requests in flight for one endpoint that sets no limit of its own.
    pub max_in_flight: u32,
    /// Places for due retries in all workers together.
    pub places: u32,
}

pub(super) async fn run(releasing: Releasing, relay: i64, leads: Arc<AtomicBool>, stop: CancellationToken) {
    let mut releaser = Releaser::default();
    let mut ticker = Ticker::new(Duty::Release, TICK, &leads, &stop);
    while ticker.due().await {
        let done = releaser.step(&releasing, relay, leads.load(Ordering::Relaxed), &stop).await;
        // What was committed without an answer is listed, and nobody adopts from a relay that lives.
        releaser.unknown = done.is_err();
        ticker.done(done);
    }
}

struct Releaser {
    began: Instant,
    held: HeldEndpoints,
    flows: Flows,
    /// Where looking up outcomes goes on.
    looked_up: usize,
    /// A statement failed, and may have done its work all the same.
    unknown: bool,
}

impl Default for Releaser {
    fn default() -> Releaser {
        let (held, flows) = (HeldEndpoints::default(), Flows::default());
        Releaser { began: Instant::now(), held, flows, looked_up: 0, unknown: false }
    }
}

impl Releaser {
    async fn step(
        &mut self,
        Releasing { publishing, found, ending, max_in_flight, places }: &Releasing,
        relay: i64,
        leads: bool,
        stop: &CancellationToken,
    ) -> Result<(), StoreError> {
        let db = &publishing.db;
        if self.unknown {
            recover(publishing, relay, stop).await?;
        }
        found.set_days(&self.held.find_days(db).await?);
        for page in self.held.look_round(db).await? {
            if leads {
                ended::of_page(ending, &page).await;
            }
        }
        let waiting = self.held.look_at_active(db, *max_in_flight).await?;
        found.set_behind(self.held.behind());
        if leads {
            let due: Vec<_> = waiting.iter().map(|one| one.due).collect();
            self.learn(db).await?;
            let allotted = self.flows.allot(&due, *places, release::MOST, self.now_ms());
            for share in shares(&allotted) {
                let (ids, messages) = self.let_go(db, relay, share, &waiting).await?;
                // What is interrupted here stays listed, and is adopted.
                tokio::select! {
                    () = in_parts(publishing, messages) => relay_batches::unlist(db, &ids).await?,
                    () = stop.cancelled() => return Ok(()),
                }
            }
        }
        Ok(())
    }

    /// Looks what became of what was let go.
    async fn learn(&mut self, db: &Db) -> Result<(), StoreError> {
        self.flows.forget_idle(self.now_ms());
        let all = self.flows.count_on_the_way() as usize;
        if all == 0 {
            return Ok(());
        }
        let skip = if all > LOOK_UP { self.looked_up % all } else { 0 };
        let open: Vec<Let> = self.flows.on_the_way().skip(skip).take(LOOK_UP).copied().collect();
        self.looked_up = skip + open.len();
        let became: HashMap<_, _> = release::became(db, &open).await?.into_iter().collect();
        self.flows.learn(&became);
        Ok(())
    }

    /// Commits what may go, the oldest days first. Returns the listed batches and their messages.
    async fn let_go(
        &mut self,
        db: &Db,
        relay: i64,
        share: Vec<(Uuid, u32)>,
        waiting: &[Waiting],
    ) -> Result<(Vec<i64>, Vec<Message>), StoreError> {
        let now_ms = self.now_ms();
        let mut counts: HashMap<Uuid, u32> = share.into_iter().collect();
        let (mut ids, mut messages, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (day, endpoints) in by_day(waiting) {
            let count = |endpoint| counts.get(&endpoint).filter(|count| **count > 0).map(|count| (endpoint, *count));
            let counted: Vec<(Uuid, u32)> = endpoints.into_iter().filter_map(count).collect();
            if counted.is_empty() || bytes >= RELEASE_BYTES {
                continue;
            }
            let batch = release::release(db, relay, day, &counted).await?;
            for message in &batch.messages {
                bytes += message.body.in_memory();
                self.flows.let_go(Let { key: message.key(), attempts: message.attempt - 1 }, now_ms);
                counts.entry(message.endpoint_id).and_modify(|count| *count = count.saturating_sub(1));
            }
            ids.extend(batch.id);
            messages.extend(batch.messages);
        }
        tracing::debug!(deliveries = messages.len(), on_the_way = self.flows.count_on_the_way(), "released");
        Ok((ids, messages))
    }

    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }
}

fn by_day(waiting: &[Waiting]) -> BTreeMap<Day, Vec<Uuid>> {
    let mut days: BTreeMap<Day, Vec<Uuid>> = BTreeMap::new();
    for one in waiting {
        for day in &one.days {
            days.entry(*day).or_default().push(one.due.endpoint_id);
        }
    }
    days
}

/// Publishes what this relay has listed and does not know of. Copies of what is published elsewhere meanwhile do no harm.
pub(super) async fn recover(publishing: &Publishing, relay: i64, stop: &CancellationToken) -> Result<(), StoreError> {
    for (id, messages) in release::listed(&publishing.db, relay, RECOVER).await? {
        tracing::info!(batch = id, messages = messages.len(), "publishing a batch whose answer was lost");
        tokio::select! {
            () = publishing.due(messages) => {}
            () = stop.cancelled() => return Ok(()),
        }
        relay_batches::unlist(&publishing.db, &[id]).await?;
    }
    Ok(())
}

/// What may go in this tick, spread over it: a long statement, and workers that get everything at once, would keep live
/// traffic waiting meanwhile. Each endpoint has its part in each share; what cannot be divided goes to different ones.
fn shares(allotted: &[(Uuid, u32)]) -> Vec<Vec<(Uuid, u32)>> {
    let all: u32 = allotted.iter().map(|(_, count)| count).sum();
    let shares = all.div_ceil(AT_ONCE).clamp(1, SHARES);
    let of = |share: u32, count: u32| count / shares + u32::from(share % shares < count % shares);
    let share = |share| {
        let counted = allotted.iter().zip(share..).map(|((id, count), turn)| (*id, of(turn, *count)));
        counted.filter(|(_, count)| *count > 0).collect()
    };
    (0..shares).map(share).filter(|share: &Vec<_>| !share.is_empty()).collect()
}

/// Publishes releases in parts, each at its time.
async fn in_parts(publishing: &Publishing, mut messages: Vec<Message>) {
    let size = messages.len().div_ceil(PARTS).max(1);
    let mut parts = Vec::new();
    while !messages.is_empty() {
        let rest = messages.split_off(size.min(messages.len()));
        parts.push(std::mem::replace(&mut messages, rest));
    }
    join_all(parts.into_iter().zip(0..).map(async |(part, before)| {
        tokio::time::sleep(APART * before).await;
        publishing.due(part).await;
    }))
    .await;
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Nothing is added or left out, and no share is much larger than another one of the same endpoint.
        #[test]
        fn shares_are_even(counts in prop::collection::vec(0u32..200, 0..20)) {
            let allotted: Vec<(Uuid, u32)> = counts.iter().map(|count| (Uuid::now_v7(), *count)).collect();
            let shares = shares(&allotted);
            prop_assert!(shares.len() <= SHARES as usize);
            for (id, count) in &allotted {
                let of: Vec<u32> = shares.iter().flatten().filter(|(of, _)| of == id).map(|(_, count)| *count).collect();
                prop_assert_eq!(of.iter().sum::<u32>(), *count);
                let most = of.iter().max().copied().unwrap_or(0);
                prop_assert!(most <= count.div_ceil(SHARES).max(AT_ONCE), "{:?}", of);
            }
        }
    }
}
