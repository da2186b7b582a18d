//! Settling apart what the database has refused together: one delivery that is locked, or that cannot be recorded, must not
//! keep others waiting.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::coalesce::Holder;
use super::database::Stopping;
use super::job::{Job, Ledger, Recorded, Rows};
use super::quarantine::Quarantine;
use super::settler::Settler;
use crate::domain::decision::our_fault_pause_ms;
use crate::domain::ids;
use crate::store::StoreError;
use crate::store::deliveries::Hold;
use crate::supervise::Helpers;
use crate::telemetry::metrics;
use crate::telemetry::names::HeldReason;

/// Statements at once. Each may wait for a lock and keep a connection meanwhile.
const UNDER_WAY: usize = 2;
/// Between two tries of one delivery that is locked.
const PAUSE: Duration = Duration::from_secs(1);

/// Jobs that are tried together.
struct Part {
    jobs: Vec<Job>,
    /// An earlier try may have recorded them: its answer was lost.
    unsure: bool,
}

impl Part {
    fn halves(mut self) -> [Part; 2] {
        let half = self.jobs.split_off(self.jobs.len() / 2);
        [Part { jobs: self.jobs, unsure: self.unsure }, Part { jobs: half, unsure: self.unsure }]
    }
}

pub struct Apart {
    ledger: Ledger,
    settler: Arc<Settler>,
    quarantine: Arc<Quarantine>,
    holds: Holder,
    helpers: Helpers,
    permits: Semaphore,
    abandon: CancellationToken,
}

impl Apart {
    pub fn new(
        ledger: Ledger,
        settler: Arc<Settler>,
        quarantine: Arc<Quarantine>,
        holds: Holder,
        helpers: Helpers,
        abandon: CancellationToken,
    ) -> Apart {
        Apart { ledger, settler, quarantine, holds, helpers, permits: Semaphore::new(UNDER_WAY), abandon }
    }

    /// Halves what is refused until the culprits are alone; everything else is recorded on the way.
    pub async fn settle(&self, jobs: Vec<Job>, unsure: bool) -> Result<(), Stopping> {
        let mut parts: VecDeque<Part> = Part { jobs, unsure }.halves().into();
        while let Some(mut part) = parts.pop_front() {
            match self.try_one(&part).await? {
                Ok(rows) => {
                    let recorded = Recorded { rows, unsure: part.unsure };
                    // It must not wait for the publishes of others.
                    let finish = {
                        let settler = self.settler.clone();
                        async move { settler.finish(part.jobs, recorded).await }
                    };
                    tokio::spawn(self.helpers.watched("a settlement", finish));
                }
                Err(error) if part.jobs.len() > 1 && error.blames_rows() => parts.extend(part.halves()),
                Err(error) if error.blames_data() => self.set_aside(part, &error).await?,
                Err(error) => {
                    part.unsure |= error.may_be_done();
                    self.wait(&part, &error).await?;
                    parts.push_back(part);
                }
            }
        }
        Ok(())
    }

    async fn try_one(&self, part: &Part) -> Result<Result<Rows, StoreError>, Stopping> {
        let trying = async {
            let _permit = self.permits.acquire().await;
            self.ledger.record(&part.jobs).await
        };
        tokio::select! {
            result = trying => Ok(result),
            () = self.abandon.cancelled() => Err(Stopping),
        }
    }

    async fn wait(&self, part: &Part, error: &StoreError) -> Result<(), Stopping> {
        for job in &part.jobs {
            tracing::warn!(%error, event_id = %job.message.event_id, endpoint_id = %job.message.endpoint_id,
                attempt = job.message.attempt, "an attempt cannot be recorded; trying again");
        }
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => Ok(()),
            () = self.abandon.cancelled() => Err(Stopping),
        }
    }

    /// The database takes anything but this record. A fault of ours: the delivery is held, and no attempt is spent.
    async fn set_aside(&self, part: Part, error: &StoreError) -> Result<(), Stopping> {
        for job in part.jobs {
            let (key, attempt) = (job.message.key(), job.message.attempt);
            tracing::error!(%error, event_id = %key.event_id, endpoint_id = %key.endpoint_id, attempt,
                "the database refuses to record an attempt; held, no attempt spent");
            let age_ms = (Utc::now().timestamp_millis() - ids::unix_ms(key.event_id)).max(0) as u64;
            let delay_ms = our_fault_pause_ms(age_ms) as i64;
            if self.holds.ask(Hold { key, attempt, delay_ms }).await? {
                if job.suspect.is_some() {
                    self.quarantine.release(key).await?;
                }
                metrics::held(HeldReason::OurFault);
                job.receipt.settle();
            } else {
                let moved_on = Recorded { rows: vec![None], unsure: part.unsure };
                self.settler.finish(vec![job], moved_on).await?;
            }
        }
        Ok(())
    }
}
