//! One statement for many deliveries: while one statement is under way, and a little longer, the next questions gather.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::database::{Stopping, until_answered};
use crate::domain::ids::DeliveryKey;
use crate::store::deliveries::{self, Hold, Snapshot};
use crate::store::{Db, StoreError, events};

/// Questions that one statement answers, at most.
const MOST: usize = 200;
/// From one statement to the next of its kind. No first attempt of the calm case waits for them, and a steady stream of
/// retries would otherwise keep the database busy with statements of one or two rows.
const GATHER: Duration = Duration::from_millis(10);

/// How long locked rows are reckoned with, after some were met.
const CAREFUL: Duration = Duration::from_secs(30);

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
    together(GATHER, async move |keys: &[DeliveryKey]| {
        let rows = until_answered(&abandon, "read deliveries", || deliveries::read(&db, keys)).await?;
        let rows: HashMap<DeliveryKey, Snapshot> = rows.into_iter().map(|row| (row.key, row)).collect();
        Ok(keys.iter().map(|key| rows.get(key).cloned()).collect())
    })
}

/// Payloads of events, for messages that do not carry theirs; none where there is no such event.
pub type PayloadReader = Together<Uuid, Option<Bytes>>;

/// The reader, and the task that serves it. What one statement brings is bounded by what the messages that wait for it
/// count: their payloads' bytes are among the unacknowledged ones.
pub fn payload_reader(db: Db, abandon: CancellationToken) -> (PayloadReader, impl Future<Output = ()>) {
    together(GATHER, async move |ids: &[Uuid]| {
        let payloads = until_answered(&abandon, "read payloads", || events::payloads(&db, ids)).await?;
        Ok(ids.iter().map(|id| payloads.get(id).cloned()).collect())
    })
}

/// Deliveries to hold; the answer is false where the row has moved on.
pub type Holder = Together<Hold, bool>;

/// The holder, and the task that serves it.
pub fn holder(db: Db, abandon: CancellationToken) -> (Holder, impl Future<Output = ()>) {
    let careful_until = Mutex::new(Instant::now());
    together(GATHER, async move |holds: &[Hold]| {
        until_answered(&abandon, "hold deliveries", || hold(&db, &careful_until, holds)).await
    })
}

/// Somebody has a row locked: for a while no statement waits for such rows, so that all others are held at once.
async fn hold(db: &Db, careful_until: &Mutex<Instant>, holds: &[Hold]) -> Result<Vec<bool>, StoreError> {
    let until = || careful_until.lock().unwrap_or_else(PoisonError::into_inner);
    if Instant::now() < *until() {
        return deliveries::hold_unlocked(db, holds).await;
    }
    match deliveries::hold(db, holds).await {
        Err(error) if error.is_locked() => {
            tracing::warn!(%error, deliveries = holds.len(), "somebody keeps deliveries locked; holding the others");
            *until() = Instant::now() + CAREFUL;
            deliveries::hold_unlocked(db, holds).await
        }
        answer => answer,
    }
}

/// Where to ask, and the task that answers.
pub fn together<Q, A>(
    pause: Duration,
    answer_all: impl AsyncFn(&[Q]) -> Result<Vec<A>, Stopping>,
) -> (Together<Q, A>, impl Future<Output = ()>) {
    let (sender, asked) = mpsc::channel(MOST);
    (Together(sender), serve(asked, pause, answer_all))
}

/// Until nobody can ask any more, or the worker is stopping.
async fn serve<Q, A>(
    mut asked: mpsc::Receiver<Asked<Q, A>>,
    pause: Duration,
    answer_all: impl AsyncFn(&[Q]) -> Result<Vec<A>, Stopping>,
) {
    let mut batch = Vec::with_capacity(MOST);
    let mut pause = gathering(pause);
    while gather(&mut asked, &mut batch, MOST, &mut pause).await {
        let (questions, waiting): (Vec<Q>, Vec<oneshot::Sender<A>>) = batch.drain(..).unzip();
        let Ok(answers) = answer_all(&questions).await else { return };
        for (waiting, answer) in waiting.into_iter().zip(answers) {
            // Nobody waits any more when the copy was given up; that is fine.
            let _ = waiting.send(answer);
        }
    }
}

/// Ticks at once after an idle time, and otherwise no sooner than `pause` after its last tick.
pub fn gathering(pause: Duration) -> Interval {
    let mut interval = tokio::time::interval(pause);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

/// The next batch: what comes until the pause since the last one is over, or as soon as it is full. False: nothing will
/// ever come again.
pub async fn gather<T>(from: &mut mpsc::Receiver<T>, batch: &mut Vec<T>, most: usize, pause: &mut Interval) -> bool {
    if from.recv_many(batch, most).await == 0 {
        return false;
    }
    let mut over = false;
    while batch.len() < most && !over {
        tokio::select! {
            biased;
            count = from.recv_many(batch, most - batch.len()) => over = count == 0,
            _ = pause.tick() => over = true,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAUSE: Duration = Duration::from_secs(3600);

    async fn gathered(from: &mut mpsc::Receiver<u32>, pause: &mut Interval) -> Vec<u32> {
        let mut batch = Vec::new();
        assert!(gather(from, &mut batch, 3, pause).await);
        batch
    }

    #[tokio::test]
    async fn the_first_batch_and_a_full_one_wait_for_nothing() {
        let (sender, mut from) = mpsc::channel(10);
        let mut pause = gathering(PAUSE);
        sender.send(1).await.unwrap();
        assert_eq!(gathered(&mut from, &mut pause).await, [1]);
        for n in 2..=6 {
            sender.send(n).await.unwrap();
        }
        assert_eq!(gathered(&mut from, &mut pause).await, [2, 3, 4]);
        {
            let mut rest = std::pin::pin!(gathered(&mut from, &mut pause));
            let waiting = tokio::time::timeout(Duration::from_millis(20), rest.as_mut()).await;
            assert!(waiting.is_err(), "one that is not full gathers");
            sender.send(7).await.unwrap();
            assert_eq!(rest.await, [5, 6, 7]);
        }
        sender.send(8).await.unwrap();
        drop(sender);
        assert_eq!(gathered(&mut from, &mut pause).await, [8]);
        assert!(!gather(&mut from, &mut Vec::new(), 3, &mut pause).await);
    }
}
