//! Settling in batches: record, publish what follows, acknowledge. In this order, for every effect.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::attempt::Attempted;
use super::coalesce::{Stopping, gather, gathering, persist, persist_once};
use super::in_hand::Hand;
use super::intake::Receipt;
use super::publish::{self, Follow, Owed, follow};
use super::suspicion::Suspect;
use super::{Context, apart, gone, suspicion};
use crate::domain::decision::{Decision, Parked};
use crate::domain::delivery::{Received, Status, Step, receive, successor};
use crate::domain::ids::{self, DeliveryKey};
use crate::domain::message::Message;
use crate::domain::outcome::Outcome;
use crate::store::StoreError;
use crate::store::deliveries::{self, Snapshot};
use crate::store::settle::{self, Settlement};
use crate::telemetry::metrics;
use crate::telemetry::names::{AttemptOutcome, HeldReason};

/// The most attempts that one statement records.
const BATCH: usize = 200;

/// From one statement to the next, unless a batch is full before. Nobody waits for a record but the acknowledgement.
const GATHER: Duration = Duration::from_millis(10);
/// Statements that record at once: one computes while another waits for the disk.
const UNDER_WAY: usize = 2;

/// A finished attempt on its way to be recorded.
pub struct Job {
    pub settlement: Settlement,
    pub outcome: Outcome,
    pub message: Message,
    pub received: Received,
    pub receipt: Receipt,
    pub hand: Hand,
    pub suspect: Option<Suspect>,
}

#[derive(Clone)]
pub struct Settler(mpsc::Sender<Job>);

impl Settler {
    pub fn new() -> (Settler, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(BATCH);
        (Settler(sender), receiver)
    }

    pub async fn submit(&self, job: Job) -> Result<(), Stopping> {
        self.0.send(job).await.map_err(|_| Stopping)
    }
}

/// What is recorded of an attempt, and what it came to.
pub fn settlement(
    message: &Message,
    attempted: Attempted,
    decision: Decision,
    budget: Option<u32>,
) -> (Settlement, Outcome) {
    let exchange = attempted.exchange;
    let settlement = Settlement {
        key: message.key(),
        attempt: message.attempt,
        decision,
        budget: budget.map(|retries| retries.min(i32::MAX as u32) as i32),
        status_code: exchange.outcome.status().map(i32::from),
        error: exchange.outcome.error(),
        duration_ms: exchange.duration.as_millis().min(i32::MAX as u128) as i32,
        started_at: attempted.started_at,
        request_headers: attempted.request_headers,
        response_headers: exchange.response_headers,
        response_body: exchange.response_body,
    };
    (settlement, exchange.outcome)
}

/// While statements wait for the disk, and a little longer, the next batch gathers, so batches grow with the load. What
/// follows a recorded batch (publishing, confirms, acknowledgements) does not keep the next one waiting.
pub(super) async fn run(context: Arc<Context>, mut jobs: mpsc::Receiver<Job>) {
    let mut batch = Vec::with_capacity(BATCH);
    let mut pause = gathering(GATHER);
    let under_way = Arc::new(Semaphore::new(UNDER_WAY));
    while gather(&mut jobs, &mut batch, BATCH, &mut pause).await {
        let Ok(statement) = under_way.clone().acquire_owned().await else { return };
        let jobs = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
        // Err: the worker is stopping; what is not acknowledged is handed out again.
        tokio::spawn(context.helpers.watched("a settlement", settle_batch(context.clone(), jobs, statement)));
    }
}

async fn settle_batch(context: Arc<Context>, jobs: Vec<Job>, statement: OwnedSemaphorePermit) -> Result<(), Stopping> {
    let recorded = record(&context, &jobs).await?;
    drop(statement);
    match recorded {
        Some(recorded) => finish(&context, jobs, recorded).await,
        None => apart::settle(&context, jobs).await,
    }
}

/// What was recorded of a batch.
pub(super) struct Recorded {
    /// For each job the row as it is now; none where it had moved on.
    pub rows: Vec<Option<Snapshot>>,
    /// An earlier try may be why: its answer was lost.
    pub unsure: bool,
}

/// `None`: some of them cannot be recorded now, and the others should not wait.
async fn record(context: &Context, jobs: &[Job]) -> Result<Option<Recorded>, Stopping> {
    let settle = async || match try_to_record(context, jobs).await {
        Err(error) if error.blames_rows() => {
            tracing::warn!(%error, attempts = jobs.len(), "attempts were refused together; trying them apart");
            Ok(None)
        }
        result => result.map(Some),
    };
    let (rows, unsure) = persist_once(&context.abandon, "settle attempts", settle).await?;
    Ok(rows.map(|rows| Recorded { rows, unsure }))
}

pub(super) async fn try_to_record(context: &Context, jobs: &[Job]) -> Result<Vec<Option<Snapshot>>, StoreError> {
    let settlements: Vec<&Settlement> = jobs.iter().map(|job| &job.settlement).collect();
    settle::settle(&context.db, &context.name, &settlements).await
}

pub(super) async fn finish(context: &Arc<Context>, jobs: Vec<Job>, recorded: Recorded) -> Result<(), Stopping> {
    let Recorded { rows, unsure } = recorded;
    // The worker has lived through them.
    for job in jobs.iter().filter(|job| job.suspect.is_some()) {
        suspicion::forget(context, job.message.key()).await?;
    }
    let lost = read_again(context, &jobs, &rows).await?;
    gone::disable(context, &jobs);
    let mut owed = Vec::new();
    for (job, row) in jobs.into_iter().zip(&rows) {
        let next = match row {
            Some(row) => {
                report(&job, row);
                follow(successor(&row.row, context.policies.delays()), row, &job.message)
            }
            None => after_loss(context, &job, unsure, lost.get(&job.message.key())),
        };
        match next {
            Some(follow) => owed.push(Owed { follow, receipt: job.receipt, _hand: Some(job.hand) }),
            // Done: it must not wait for the publishes of others.
            None => job.receipt.settle(),
        }
    }
    publish::all(context, owed).await
}

/// Another copy was faster, or this one at an earlier try: what the row says now decides. A winner may crash before it
/// publishes the successor, so a lost compare-and-set is never just acknowledged.
async fn read_again(
    context: &Context,
    jobs: &[Job],
    rows: &[Option<Snapshot>],
) -> Result<HashMap<DeliveryKey, Snapshot>, Stopping> {
    let keys: Vec<DeliveryKey> =
        jobs.iter().zip(rows).filter(|(_, row)| row.is_none()).map(|(job, _)| job.message.key()).collect();
    let read = || deliveries::read(&context.db, &keys);
    if keys.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = persist(&context.abandon, "read deliveries again", read).await?;
    Ok(rows.into_iter().map(|row| (row.key, row)).collect())
}

fn after_loss(context: &Context, job: &Job, unsure: bool, row: Option<&Snapshot>) -> Option<Follow> {
    metrics::duplicate_discarded();
    match receive(job.received.unsure(unsure), row.map(|row| &row.row), context.policies.delays()) {
        Step::Follow(successor) => row.and_then(|row| follow(successor, row, &job.message)),
        // A lost settle never makes the request again, whatever the row says.
        Step::Proceed | Step::AwaitRow | Step::Drop(_) => None,
    }
}

/// The figures of an attempt, and its one log line.
fn report(job: &Job, snapshot: &Snapshot) {
    let row = &snapshot.row;
    let outcome = match row.status {
        Status::Delivered => AttemptOutcome::Delivered,
        Status::Dead => AttemptOutcome::Dead,
        _ => AttemptOutcome::Retry,
    };
    let duration_ms = job.settlement.duration_ms;
    metrics::attempt(outcome, job.outcome.status_class(), Duration::from_millis(duration_ms.max(0) as u64));
    if row.status == Status::Delivered {
        let finished_ms = job.settlement.started_at.timestamp_millis() + i64::from(duration_ms);
        let latency_ms = (finished_ms - ids::unix_ms(job.message.event_id)).max(0);
        metrics::delivered(Duration::from_millis(latency_ms as u64));
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
    log(job, snapshot, outcome);
}

/// A delivered attempt is worth a line to whoever looks for one: the attempts table has it anyway.
fn log(job: &Job, snapshot: &Snapshot, outcome: AttemptOutcome) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                event_id = %job.message.event_id,
                endpoint_id = %job.message.endpoint_id,
                event_type = &*job.message.event_type,
                attempt = snapshot.row.attempts,
                outcome = outcome.as_str(),
                status_code = job.settlement.status_code,
                error = job.settlement.error,
                duration_ms = job.settlement.duration_ms,
                retry_in_ms = snapshot.row.due_in_ms,
                "attempt"
            )
        };
    }
    match outcome {
        AttemptOutcome::Delivered => line!(debug),
        AttemptOutcome::Retry | AttemptOutcome::Dead => line!(info),
    }
}
