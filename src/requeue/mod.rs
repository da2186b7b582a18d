//! Requeue: dead deliveries get a fresh set of attempts. Driven from PostgreSQL, never from the dead-letter queue.
//!
//! Committed first, published after; killed anywhere it may simply be run again.

use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub mod again;
mod behind;
mod error;
pub mod lost;
mod publish;
mod rate;
pub mod sweep;

pub use error::RequeueError;

use crate::broker::publisher::Publisher;
use crate::store::due::Batch;
use crate::store::replay::{self, Terms, Window};
use crate::store::requeue::{self, Filter, Next};
use crate::store::{Db, StoreError, accounts, dead_endpoints, endpoints, relay_batches};
use behind::Behind;
use publish::publish_due;
use rate::Rate;

pub struct Requeue {
    pub db: Db,
    pub publisher: Publisher,
    /// The identity under which batches are listed until they are confirmed.
    pub relay: i32,
    pub filter: Filter,
    /// Deliveries per second.
    pub rate: Option<NonZeroU32>,
    /// What died more recently is waited for: its worker may still be writing the dead letter.
    pub grace: Duration,
    pub missing: Option<Missing>,
    /// Nothing more is granted; what was, is published.
    pub stop: CancellationToken,
}

/// A replay of what one endpoint has missed: events of the window that it was never owed.
pub struct Missing {
    pub endpoint: Uuid,
    pub window: Window,
    /// Attempts that the endpoint's policy allows.
    pub ceiling: i32,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Done {
    pub requeued: u64,
    pub created: u64,
}

impl Done {
    pub fn total(&self) -> u64 {
        self.requeued + self.created
    }
}

/// What is meant, before anything is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Endpoints with matching deliveries, and how many.
    pub endpoints: Vec<(Uuid, u64)>,
    /// Dead deliveries of endpoints that were removed: nowhere to send them.
    pub removed: u64,
    /// Deliveries to make for events that the endpoint has missed.
    pub missing: u64,
}

impl Plan {
    pub fn deliveries(&self) -> u64 {
        self.missing + self.endpoints.iter().map(|(_, count)| count).sum::<u64>()
    }
}

impl Requeue {
    pub async fn plan(&self) -> Result<Plan, StoreError> {
        let mut plan = Plan::default();
        if let Some(missing) = &self.missing {
            let mut slices = replay::slices(&self.db, missing.endpoint, missing.window).await?;
            while let Some(slice) = slices.next(&self.db).await? {
                plan.missing += replay::count(&self.db, missing.endpoint, &slice).await?.max(0) as u64;
            }
        }
        for endpoint in dead_endpoints::that_match(&self.db, &self.filter).await? {
            let count = requeue::count(&self.db, endpoint, &self.filter).await?.max(0) as u64;
            if count == 0 {
                continue;
            }
            match endpoints::get(&self.db, endpoint).await? {
                Some(_) => plan.endpoints.push((endpoint, count)),
                None => plan.removed += count,
            }
        }
        Ok(plan)
    }

    /// Grants and publishes. Only what was dead at the start is taken: a delivery that dies again is not taken again.
    pub async fn run(&self, plan: &Plan, account: i64, progress: impl Fn(u64)) -> Result<Done, RequeueError> {
        let start = requeue::now(&self.db).await?;
        let until = self.filter.until.map_or(start, |until| until.min(start));
        let filter = Filter { until: Some(until), ..self.filter.clone() };
        self.wait_for_recent(plan, &filter, start).await?;
        let mut rate = Rate::new(self.rate);
        let mut done = Done::default();
        for (endpoint, _) in &plan.endpoints {
            let mut behind = Behind::new(*endpoint);
            let mut after = Uuid::nil();
            loop {
                if !self.goes_on(&mut rate).await {
                    return Ok(done);
                }
                let behind = behind.look(&self.db).await?;
                let next = Next { endpoint: *endpoint, after, limit: rate.batch.into(), behind };
                let granted = requeue::grant(&self.db, self.relay.into(), &filter, next).await?;
                let Some(last) = granted.last else { break };
                after = last;
                done.requeued += granted.deliveries;
                self.send(granted.batch, account, done).await?;
                progress(done.total());
            }
        }
        if let Some(missing) = &self.missing {
            self.replay(missing, &mut rate, account, &mut done, &progress).await?;
        }
        Ok(done)
    }

    async fn replay(
        &self,
        missing: &Missing,
        rate: &mut Rate,
        account: i64,
        done: &mut Done,
        progress: impl Fn(u64),
    ) -> Result<(), RequeueError> {
        let mut behind = Behind::new(missing.endpoint);
        let mut slices = replay::slices(&self.db, missing.endpoint, missing.window).await?;
        let limit: i64 = rate.batch.into();
        while let Some(mut slice) = slices.next(&self.db).await? {
            loop {
                if !self.goes_on(rate).await {
                    return Ok(());
                }
                let behind = behind.look(&self.db).await?;
                let terms = Terms { endpoint: missing.endpoint, ceiling: missing.ceiling, behind };
                let made = replay::create(&self.db, self.relay.into(), terms, &slice, limit).await?;
                let Some(last) = made.last else { break };
                slice.from = last;
                done.created += made.deliveries;
                self.send(made.batch, account, *done).await?;
                progress(done.total());
            }
        }
        Ok(())
    }

    /// Publishes a committed batch and notes how far the run has come.
    async fn send(&self, batch: Batch, account: i64, done: Done) -> Result<(), RequeueError> {
        publish_due(&self.publisher, batch.messages).await?;
        if let Some(id) = batch.id {
            relay_batches::unlist(&self.db, &[id]).await?;
        }
        Ok(accounts::progress(&self.db, account, done.requeued as i64, done.created as i64).await?)
    }

    /// Waits for the next batch's turn. False: there is none any more.
    async fn goes_on(&self, rate: &mut Rate) -> bool {
        tokio::select! {
            biased;
            () = self.stop.cancelled() => false,
            () = rate.wait() => true,
        }
    }

    async fn wait_for_recent(&self, plan: &Plan, filter: &Filter, start: DateTime<Utc>) -> Result<(), StoreError> {
        let grace = chrono::TimeDelta::from_std(self.grace).unwrap_or_default();
        let recent = Filter { since: Some(start - grace), ..filter.clone() };
        for (endpoint, _) in &plan.endpoints {
            if requeue::count(&self.db, *endpoint, &recent).await? > 0 {
                tokio::select! {
                    () = tokio::time::sleep(self.grace) => {}
                    () = self.stop.cancelled() => {}
                }
                return Ok(());
            }
        }
        Ok(())
    }
}
