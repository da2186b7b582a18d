//! Recording finished attempts, a batch with one statement. What follows is the settler's.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::coalesce::{Stopping, gather, gathering, persist_once};
use super::job::{Job, Recorded, Rows, try_to_record};
use super::{Context, apart, settler};

/// The most attempts that one statement records.
const BATCH: usize = 200;

/// From one statement to the next, unless a batch is full before. Nobody waits for a record but the acknowledgement.
const GATHER: Duration = Duration::from_millis(20);
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
    let (rows, unsure) = record(&context, &jobs).await?;
    drop(statement);
    match rows {
        Some(rows) => settler::finish(&context, jobs, Recorded { rows, unsure }).await,
        None => apart::settle(&context, jobs, unsure).await,
    }
}

/// `None`, and whether an earlier try may have recorded them: some cannot be recorded now, and the others should not wait.
async fn record(context: &Context, jobs: &[Job]) -> Result<(Option<Rows>, bool), Stopping> {
    let record = async || match try_to_record(context, jobs).await {
        Err(error) if error.blames_rows() => {
            tracing::warn!(%error, attempts = jobs.len(), "attempts were refused together; trying them apart");
            Ok(None)
        }
        result => result.map(Some),
    };
    persist_once(&context.abandon, "settle attempts", record).await
}
