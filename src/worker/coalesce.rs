//! Reading many rows with one statement: while one read is under way, the next keys gather.

use std::collections::HashMap;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::domain::ids::DeliveryKey;
use crate::domain::reconnect;
use crate::store::deliveries::{self, Snapshot};
use crate::store::{Db, StoreError};

const MOST: usize = 200;

type Question = (DeliveryKey, oneshot::Sender<Option<Snapshot>>);

#[derive(Clone)]
pub struct RowReader(mpsc::Sender<Question>);

impl RowReader {
    /// The reader, and the task that serves it.
    pub fn new(db: Db, abandon: CancellationToken) -> (RowReader, impl Future<Output = ()>) {
        let (sender, receiver) = mpsc::channel(MOST);
        (RowReader(sender), serve(db, receiver, abandon))
    }

    /// The row now; `Err` only when the worker is stopping.
    pub async fn read(&self, key: DeliveryKey) -> Result<Option<Snapshot>, Stopping> {
        let (answer, wait) = oneshot::channel();
        self.0.send((key, answer)).await.map_err(|_| Stopping)?;
        wait.await.map_err(|_| Stopping)
    }
}

/// The grace period is over: whatever is in hand stays unacknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Stopping;

async fn serve(db: Db, mut questions: mpsc::Receiver<Question>, abandon: CancellationToken) {
    let mut batch = Vec::with_capacity(MOST);
    while questions.recv_many(&mut batch, MOST).await > 0 {
        let keys: Vec<DeliveryKey> = batch.iter().map(|(key, _)| *key).collect();
        let Ok(rows) = persist(&abandon, "read deliveries", || deliveries::read(&db, &keys)).await else {
            return;
        };
        let rows: HashMap<DeliveryKey, Snapshot> = rows.into_iter().map(|row| (row.key, row)).collect();
        for (key, answer) in batch.drain(..) {
            // Nobody waits any more when the copy was given up; that is fine.
            let _ = answer.send(rows.get(&key).cloned());
        }
    }
}

/// Repeats a database operation until it succeeds: an unreachable database is our fault and must cost nobody anything.
pub async fn persist<T, F>(
    abandon: &CancellationToken,
    what: &'static str,
    operation: impl Fn() -> F,
) -> Result<T, Stopping>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut failures = 0;
    loop {
        let result = tokio::select! {
            result = operation() => result,
            () = abandon.cancelled() => return Err(Stopping),
        };
        match result {
            Ok(value) => return Ok(value),
            Err(error) => {
                tracing::warn!(%error, failures, what, "database operation failed; trying again");
                let pause = reconnect::pause(failures, rand::random());
                failures += 1;
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = abandon.cancelled() => return Err(Stopping),
                }
            }
        }
    }
}
