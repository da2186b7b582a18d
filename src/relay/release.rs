//! Release: held deliveries that may go on, each endpoint's as fast as it takes them. A task of its own in every relay: all
//! look which endpoints are behind, and the one that leads lets go.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

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
/// More releases than this are published in parts: workers that get all at once keep live traffic waiting meanwhile.
const AT_ONCE: usize = 10;
const PARTS: usize = 4;
/// Between the parts. All together take less than the tick.
const PAUSE: Duration = Duration::from_millis(20);

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
            self.learn(db).await?;
            let (ids, messages) = self.let_go(db, relay, *places, &waiting).await?;
            // What is interrupted here stays listed, and is adopted.
            tokio::select! {
                () = in_parts(publishing, messages) => relay_batches::unlist(db, &ids).await?,
                () = stop.cancelled() => {}
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
        places: u32,
        waiting: &[Waiting],
    ) -> Result<(Vec<i64>, Vec<Message>), StoreError> {
        let now_ms = self.now_ms();
        let due: Vec<_> = waiting.iter().map(|one| one.due).collect();
        let mut counts: HashMap<Uuid, u32> =
            self.flows.allot(&due, places, release::MOST, now_ms).into_iter().collect();
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

/// Publishes releases, many of them in parts.
async fn in_parts(publishing: &Publishing, mut messages: Vec<Message>) {
    let size = messages.len().div_ceil(PARTS).max(AT_ONCE);
    while messages.len() > size {
        let rest = messages.split_off(size);
        publishing.due(std::mem::replace(&mut messages, rest)).await;
        tokio::time::sleep(PAUSE).await;
    }
    publishing.due(messages).await;
}
