//! Settling what is recorded: publish what follows, acknowledge, report. In the order of effects that holds everywhere.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::attempt_line;
use super::database::{Stopping, until_answered};
use super::disabling::Disabling;
use super::job::{Job, Recorded};
use super::quarantine::Quarantine;
use super::successors::{Follow, Owed, Successors, follow};
use crate::domain::backoff::Policies;
use crate::domain::dead_reason::DeadReason;
use crate::domain::decision::{Decision, Parked};
use crate::domain::delivery::{Status, Step, receive, successor};
use crate::domain::ids::{self, DeliveryKey};
use crate::domain::share::Share;
use crate::store::Db;
use crate::store::deliveries::{self, Snapshot};
use crate::telemetry::metrics;
use crate::telemetry::names::{AttemptOutcome, HeldReason};

pub struct Settler {
    pub db: Db,
    pub policies: Arc<Policies>,
    pub quarantine: Arc<Quarantine>,
    pub disabling: Disabling,
    pub successors: Arc<Successors>,
    /// Delivered attempts whose lines are said at `info`.
    pub log_delivered: Share,
    pub abandon: CancellationToken,
}

impl Settler {
    pub async fn finish(&self, jobs: Vec<Job>, recorded: Recorded) -> Result<(), Stopping> {
        let Recorded { rows, unsure } = recorded;
        // The worker has lived through them.
        for job in jobs.iter().filter(|job| job.suspect.is_some()) {
            self.quarantine.release(job.message.key()).await?;
        }
        let lost = self.read_again(&jobs, &rows).await?;
        self.disabling.disable(&jobs);
        let mut owed = Vec::new();
        for (job, row) in jobs.into_iter().zip(&rows) {
            let next = match row {
                Some(row) => {
                    report(&job, row, self.log_delivered);
                    follow(successor(&row.row, self.policies.delays()), row, &job.message)
                }
                None => self.after_loss(&job, unsure, lost.get(&job.message.key())),
            };
            match next {
                Some(follow) => {
                    owed.push(Owed { follow, receipt: job.receipt, _lock: Some(job.lock), _trace: job.trace })
                }
                // Done: it must not wait for the publishes of others.
                None => job.receipt.settle(),
            }
        }
        self.successors.publish(owed).await
    }

    /// Another copy was faster, or this one at an earlier try: what the row says now decides. A winner may crash before it
    /// publishes the successor, so a lost compare-and-set is never just acknowledged.
    async fn read_again(
        &self,
        jobs: &[Job],
        rows: &[Option<Snapshot>],
    ) -> Result<HashMap<DeliveryKey, Snapshot>, Stopping> {
        let keys: Vec<DeliveryKey> =
            jobs.iter().zip(rows).filter(|(_, row)| row.is_none()).map(|(job, _)| job.message.key()).collect();
        let read = || deliveries::read(&self.db, &keys);
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let rows = until_answered(&self.abandon, "read deliveries again", read).await?;
        Ok(rows.into_iter().map(|row| (row.key, row)).collect())
    }

    fn after_loss(&self, job: &Job, unsure: bool, row: Option<&Snapshot>) -> Option<Follow> {
        metrics::duplicate_discarded();
        match receive(job.received.unsure(unsure), row.map(|row| &row.row), self.policies.delays()) {
            Step::Follow(successor) => row.and_then(|row| follow(successor, row, &job.message)),
            // A lost settle never makes the request again, whatever the row says.
            Step::Proceed | Step::AwaitRow | Step::Drop(_) => None,
        }
    }
}

/// The figures of an attempt, and its one log line.
fn report(job: &Job, snapshot: &Snapshot, log_delivered: Share) {
    let row = &snapshot.row;
    let outcome = match row.status {
        Status::Delivered => AttemptOutcome::Delivered,
        Status::Dead => AttemptOutcome::Dead,
        _ => AttemptOutcome::Retry,
    };
    if let Some(trace) = &job.trace {
        trace.came_to(outcome.as_str(), row.dead_reason.map(DeadReason::as_str));
    }
    let duration_ms = job.settlement.duration_ms;
    metrics::attempt(outcome, job.status_class, Duration::from_millis(duration_ms.max(0) as u64));
    let started_ms = job.settlement.started_at.timestamp_millis();
    if job.message.attempt == 1 {
        metrics::first_attempt(job.standing, since_event(job, started_ms));
    }
    if row.status == Status::Delivered {
        metrics::delivered(job.standing, since_event(job, started_ms + i64::from(duration_ms)));
    }
    if let Some(reason) = row.dead_reason {
        metrics::dead_letter(reason);
    }
    if let (Status::Held, Decision::Park { why, .. }) = (row.status, &job.settlement.decision) {
        metrics::held(match why {
            Parked::RetryAfter => HeldReason::RetryAfter,
            Parked::KeepsFailing => HeldReason::Circuit,
        });
    }
    attempt_line::write(job, snapshot, outcome, log_delivered);
}

fn since_event(job: &Job, unix_ms: i64) -> Duration {
    Duration::from_millis((unix_ms - ids::unix_ms(job.message.event_id)).max(0) as u64)
}
