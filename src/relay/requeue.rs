//! Requeue: dead deliveries get a fresh set of attempts. Driven from PostgreSQL, never from the dead-letter queue.
//!
//! Committed first, published after; killed anywhere it may simply be run again.

use std::num::NonZeroU32;
use std::time::Duration;

use chrono::{DateTime, Utc};
use governor::{Quota, RateLimiter};
use uuid::Uuid;

use super::publish::publish_due;
use super::sweep::SweepError;
use crate::broker::publisher::Publisher;
use crate::store::requeue::{self, Filter};
use crate::store::{Db, StoreError, endpoints, relay_batches};

/// Deliveries granted with one statement.
const BATCH: u32 = 500;

pub struct Requeue {
    pub db: Db,
    pub publisher: Publisher,
    /// The identity under which batches are listed until they are confirmed.
    pub relay: i32,
    pub filter: Filter,
    /// Deliveries per second.
    pub rate: Option<NonZeroU32>,
    /// What died more recently is waited for: its worker may still be writing the letter.
    pub grace: Duration,
}

/// What is meant, before anything is changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Endpoints with matching deliveries, and how many.
    pub endpoints: Vec<(Uuid, u64)>,
    /// Dead deliveries of endpoints that were removed: nowhere to send them.
    pub removed: u64,
}

impl Plan {
    pub fn deliveries(&self) -> u64 {
        self.endpoints.iter().map(|(_, count)| count).sum()
    }
}

impl Requeue {
    pub async fn plan(&self) -> Result<Plan, StoreError> {
        let mut plan = Plan::default();
        for endpoint in self.candidates().await? {
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

    async fn candidates(&self) -> Result<Vec<Uuid>, StoreError> {
        match self.filter.endpoint {
            Some(endpoint) => Ok(vec![endpoint]),
            None => requeue::endpoints(&self.db).await,
        }
    }

    /// Grants and publishes. Only what was dead at the start is taken: a delivery that dies again is not taken again.
    pub async fn run(&self, plan: &Plan, progress: impl Fn(u64)) -> Result<u64, SweepError> {
        let start = requeue::now(&self.db).await?;
        let filter =
            Filter { until: Some(self.filter.until.map_or(start, |until| until.min(start))), ..self.filter.clone() };
        self.wait_for_recent(plan, &filter, start).await?;
        let limiter = self.rate.map(|rate| RateLimiter::direct(Quota::per_second(rate)));
        let batch = self.rate.map_or(BATCH, |rate| rate.get().clamp(1, BATCH));
        let mut done = 0;
        for (endpoint, _) in &plan.endpoints {
            let mut after = Uuid::nil();
            loop {
                if let (Some(limiter), Some(cells)) = (&limiter, NonZeroU32::new(batch)) {
                    // The burst is one second's worth, so a batch of at most that always fits.
                    let _ = limiter.until_n_ready(cells).await;
                }
                let granted =
                    requeue::grant(&self.db, self.relay.into(), *endpoint, &filter, after, batch.into()).await?;
                let (Some(last), Some(id)) = (granted.messages.last(), granted.id) else { break };
                after = last.event_id;
                done += granted.messages.len() as u64;
                publish_due(&self.publisher, granted.messages).await?;
                relay_batches::unlist(&self.db, &[id]).await?;
                progress(done);
            }
        }
        Ok(done)
    }

    async fn wait_for_recent(&self, plan: &Plan, filter: &Filter, start: DateTime<Utc>) -> Result<(), StoreError> {
        let grace = chrono::TimeDelta::from_std(self.grace).unwrap_or_default();
        let recent = Filter { since: Some(start - grace), ..filter.clone() };
        for (endpoint, _) in &plan.endpoints {
            if requeue::count(&self.db, *endpoint, &recent).await? > 0 {
                tokio::time::sleep(self.grace).await;
                return Ok(());
            }
        }
        Ok(())
    }
}
