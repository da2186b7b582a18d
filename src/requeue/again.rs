//! Resends and early retries. As a requeue, they are driven from PostgreSQL, commit first and publish after; killed anywhere, a
//! resend goes on by its account.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::behind;
use super::error::RequeueError;
use super::publish::publish_due;
use super::rate::Rate;
use crate::broker::publisher::Publisher;
use crate::store::again::{self, Candidate, Chosen, Selection};
use crate::store::days::{Day, by_day};
use crate::store::{Db, StoreError, accounts, held, relay_batches};

/// What is found at once.
const FOUND: i64 = 5_000;

pub struct Again {
    pub db: Db,
    pub publisher: Publisher,
    /// The identity under which batches are listed until they are confirmed.
    pub relay: i32,
    pub selection: Selection,
    /// Deliveries per second.
    pub rate: Option<NonZeroU32>,
    /// Nothing more is granted; what was, is published.
    pub stop: CancellationToken,
}

/// What is meant, before anything is changed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meant {
    pub deliveries: u64,
    /// Of them.
    pub dead: u64,
    /// Of endpoints that were removed: nowhere to send them. Not counted in the others.
    pub removed: u64,
}

impl Again {
    pub async fn plan(&self) -> Result<Meant, StoreError> {
        let mut meant = Meant::default();
        for day in self.days().await? {
            for way in self.selection.ways() {
                let mut after = Some(self.selection.beginning());
                while let Some(position) = after {
                    let found = again::find(&self.db, &self.selection, *way, day, position, FOUND).await?;
                    for candidate in &found.candidates {
                        meant.add(candidate);
                    }
                    after = found.next;
                }
            }
        }
        Ok(meant)
    }

    /// Grants and publishes. `done` were by an earlier run of the same account. Returns how many there are in all.
    pub async fn run(&self, account: i64, mut done: u64, progress: impl Fn(u64)) -> Result<u64, RequeueError> {
        let mut rate = Rate::new(self.rate);
        for day in self.days().await? {
            for way in self.selection.ways() {
                let mut after = Some(self.selection.beginning());
                while let Some(position) = after {
                    // Far more than a batch: what is found is looked for among many. What has changed meanwhile is not taken.
                    let found = again::find(&self.db, &self.selection, *way, day, position, FOUND).await?;
                    after = found.next;
                    for batch in found.candidates.chunks(rate.batch as usize) {
                        if !self.goes_on(&mut rate).await {
                            return Ok(done);
                        }
                        done += self.send(day, batch).await?;
                        accounts::progress(&self.db, account, done as i64, 0).await?;
                        progress(done);
                    }
                    if self.stop.is_cancelled() {
                        return Ok(done);
                    }
                }
            }
        }
        Ok(done)
    }

    /// One committed batch, published.
    async fn send(&self, day: Day, candidates: &[Candidate]) -> Result<u64, RequeueError> {
        let keys = candidates.iter().filter(|candidate| candidate.has_endpoint).map(|candidate| candidate.key);
        let endpoints: HashSet<Uuid> = keys.clone().map(|key| key.endpoint_id).collect();
        let endpoints: Vec<Uuid> = endpoints.into_iter().collect();
        let behind = behind::among(&self.db, &endpoints).await?;
        let chosen: Vec<Chosen> = keys.map(|key| Chosen { key, behind: behind.contains(&key.endpoint_id) }).collect();
        let made = again::grant(&self.db, self.relay.into(), &self.selection, day, &chosen).await?;
        publish_due(&self.publisher, made.batch.messages).await?;
        if let Some(id) = made.batch.id {
            relay_batches::unlist(&self.db, &[id]).await?;
        }
        Ok(made.deliveries)
    }

    /// Waits for the next batch's turn. False: there is none any more.
    async fn goes_on(&self, rate: &mut Rate) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = rate.wait() => true,
        }
    }

    /// Those that may have something, oldest first.
    async fn days(&self) -> Result<Vec<Day>, StoreError> {
        let days = held::days(&self.db).await?;
        let named: BTreeMap<Day, Vec<Uuid>> = by_day(self.selection.events.iter().copied(), |event| *event);
        let may_have = |day: &Day| {
            let is_named = named.is_empty() || named.contains_key(day);
            is_named && day.first_id() < self.selection.to && day.end_id() > self.selection.from
        };
        Ok(days.into_iter().filter(may_have).collect())
    }
}

impl Meant {
    fn add(&mut self, candidate: &Candidate) {
        if !candidate.has_endpoint {
            self.removed += 1;
            return;
        }
        self.deliveries += 1;
        self.dead += u64::from(candidate.is_dead);
    }
}
