//! One statement for many deliveries: while one statement is under way, and a little longer, the next questions gather.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::domain::ids::DeliveryKey;
use crate::domain::reconnect;
use crate::store::deliveries::{self, Hold, Snapshot};
use crate::store::{Db, StoreError};

/// Questions that one statement answers, at most.
const MOST: usize = 200;
/// From one statement to the next of its kind. No first attempt of the calm case waits for them, and a steady stream of
/// retries would otherwise keep the database busy with statements of one or two rows.
const GATHER: Duration = Duration::from_millis(10);

type Asked<Q, A> = (Q, oneshot::Sender<A>);

/// Where questions are put that one statement answers together.
pub struct Together<Q, A>(mpsc::Sender<Asked<Q, A>>);

impl<Q, A> Clone for Together<Q, A> {
    fn clone(&self) -> Self {
        Together(self.0.clone())
    }
}

impl<Q, A> Together<Q, A> {
    /// The answer; `Err` only when the worker is stopping.
    pub async fn ask(&self, question: Q) -> Result<A, Stopping> {
        let (answer, wait) = oneshot::channel();
        self.0.send((question, answer)).await.map_err(|_| Stopping)?;
        wait.await.map_err(|_| Stopping)
    }
}

/// Rows of deliveries as they are now.
pub type RowReader = Together<DeliveryKey, Option<Snapshot>>;

/// The reader, and the task that serves it.
pub fn row_reader(db: Db, abandon: CancellationToken) -> (RowReader, impl Future<Output = ()>) {
    let (sender, asked) = mpsc::channel(MOST);
    let serving = serve(asked, async move |keys: &[DeliveryKey]| {
        let rows = persist(&abandon, "read deliveries", || deliveries::read(&db, keys)).await?;
        let rows: HashMap<DeliveryKey, Snapshot> = rows.into_iter().map(|row| (row.key, row)).collect();
        Ok(keys.iter().map(|key| rows.get(key).cloned()).collect())
    });
    (Together(sender), serving)
}

/// Deliveries to hold; the answer is false where the row has moved on.
pub type Holder = Together<Hold, bool>;

/// The holder, and the task that serves it.
pub fn holder(db: Db, abandon: CancellationToken) -> (Holder, impl Future<Output = ()>) {
    let (sender, asked) = mpsc::channel(MOST);
    let serving = serve(asked, async move |holds: &[Hold]| {
        persist(&abandon, "hold deliveries", || deliveries::hold(&db, holds)).await
    });
    (Together(sender), serving)
}

/// Until nobody can ask any more, or the worker is stopping.
async fn serve<Q, A>(
    mut asked: mpsc::Receiver<Asked<Q, A>>,
    answer_all: impl AsyncFn(&[Q]) -> Result<Vec<A>, Stopping>,
) {
    let mut batch = Vec::with_capacity(MOST);
    let mut pause = gathering();
    while asked.recv_many(&mut batch, MOST).await > 0 {
        let (questions, waiting): (Vec<Q>, Vec<oneshot::Sender<A>>) = batch.drain(..).unzip();
        let Ok(answers) = answer_all(&questions).await else { return };
        for (waiting, answer) in waiting.into_iter().zip(answers) {
            // Nobody waits any more when the copy was given up; that is fine.
            let _ = waiting.send(answer);
        }
        pause.tick().await;
    }
}

/// Ticks at once after an idle time, and otherwise no sooner than `GATHER` after its last tick.
pub fn gathering() -> Interval {
    let mut interval = tokio::time::interval(GATHER);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The grace period is over: whatever is in hand stays unacknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Stopping;

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
