//! Recording finished attempts, a batch with one statement. What follows is the settler's.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::apart::Apart;
use super::coalesce::{gather, gathering};
use super::database::{Stopping, until_answered_or_done};
use super::job::{Job, Ledger, Recorded, Rows};
use super::settler::Settler;
use crate::supervise::Helpers;

/// The most attempts that one statement records.
const BATCH: usize = 200;

/// From one statement to the next, unless a batch is full before. Nobody waits for a record but the acknowledgement.
const GATHER: Duration = Duration::from_millis(50);
/// Statements that record at once: one computes while another waits for the disk.
const UNDER_WAY: usize = 2;

#[derive(Clone)]
pub struct Recorder(mpsc::Sender<Job>);

impl Recorder {
    pub fn new() -> (Recorder, mpsc::Receiver<Job>) {
        let (sender, receiver) = mpsc::channel(BATCH);
        (Recorder(sender), receiver)
    }

    pub async fn submit(&self, job: Job) -> Result<(), Stopping> {
        self.0.send(job).await.map_err(|_| Stopping)
    }
}

/// The task's part.
pub struct Recording {
    pub ledger: Ledger,
    pub settler: Arc<Settler>,
    pub apart: Apart,
    pub helpers: Helpers,
    pub abandon: CancellationToken,
}

impl Recording {
    /// While statements wait for the disk, and a little longer, the next batch gathers, so batches grow with the load. What
    /// follows a recorded batch (publishing, confirms, acknowledgements) does not keep the next one waiting.
    pub async fn run(self, mut jobs: mpsc::Receiver<Job>) {
        let recording = Arc::new(self);
        let mut batch = Vec::with_capacity(BATCH);
        let mut pause = gathering(GATHER);
        let under_way = Arc::new(Semaphore::new(UNDER_WAY));
        while gather(&mut jobs, &mut batch, BATCH, &mut pause).await {
            let Ok(statement) = under_way.clone().acquire_owned().await else { return };
            let jobs = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
            // Err: the worker is stopping; what is not acknowledged is handed out again.
            let settling = recording.clone().settle_batch(jobs, statement);
            tokio::spawn(recording.helpers.watched("a settlement", settling));
        }
    }

    async fn settle_batch(self: Arc<Self>, jobs: Vec<Job>, statement: OwnedSemaphorePermit) -> Result<(), Stopping> {
        let (rows, unsure) = self.record(&jobs).await?;
        drop(statement);
        match rows {
            Some(rows) => self.settler.finish(jobs, Recorded { rows, unsure }).await,
            None => self.apart.settle(jobs, unsure).await,
        }
    }

    /// `None`, and whether an earlier try may have recorded them: some cannot be recorded now, and the others should not
    /// wait.
    async fn record(&self, jobs: &[Job]) -> Result<(Option<Rows>, bool), Stopping> {
        let record = async || match self.ledger.record(jobs).await {
            Err(error) if error.blames_rows() => {
                tracing::warn!(%error, attempts = jobs.len(), "attempts were refused together; trying them apart");
                Ok(None)
            }
            result => result.map(Some),
        };
        until_answered_or_done(&self.abandon, "settle attempts", record).await
    }
}
