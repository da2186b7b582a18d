//! Trying messages that workers may have died of, so that only the guilty one is ended as poison.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::database::{Stopping, until_answered};
use super::refused::{NotMade, Refused};
use crate::domain::ids::DeliveryKey;
use crate::domain::poison::{Trial, is_proven, trial};
use crate::store::{Db, StoreError, suspects};

/// How long a suspect waits for the trial of another one with a place in its hands that others need.
const PATIENCE: Duration = Duration::from_millis(300);
/// For taking back what was begun, at the end of the grace period.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Until its attempt is recorded.
pub struct Suspect {
    /// No other suspect is tried meanwhile.
    _alone: Option<OwnedSemaphorePermit>,
}

/// For all messages of this worker.
pub struct Quarantine {
    db: Db,
    /// One suspect at a time, where suspects must be told apart.
    alone: Arc<Semaphore>,
    born: Instant,
    abandon: CancellationToken,
}

impl Quarantine {
    pub fn new(db: Db, abandon: CancellationToken) -> Quarantine {
        Quarantine { db, alone: Arc::new(Semaphore::new(1)), born: Instant::now(), abandon }
    }

    /// Whether a message that is suspected may be tried now.
    pub async fn admit(&self, key: DeliveryKey, attempt: i32) -> Result<Suspect, NotMade> {
        let read = || suspects::unfinished(&self.db, key, attempt);
        let unfinished = until_answered(&self.abandon, "read a suspect", read).await?;
        let alone = match trial(unfinished, self.born.elapsed()) {
            Trial::Never => {
                return Err(Refused::Poison("workers died again and again while they made this attempt").into());
            }
            // This worker has not lived for long enough.
            Trial::NotYet(rest) => return Err(Refused::Suspect { rest }.into()),
            Trial::BesideOthers => None,
            Trial::Alone => {
                tracing::warn!(event_id = %key.event_id, endpoint_id = %key.endpoint_id, attempt,
                    "workers may have died of this message; no other such message is tried beside it");
                let Ok(alone) = timeout(PATIENCE, self.alone.clone().acquire_owned()).await else {
                    return Err(Refused::Suspect { rest: Duration::ZERO }.into());
                };
                Some(alone.map_err(|_| Stopping)?)
            }
        };
        Ok(Suspect { _alone: alone })
    }

    /// To be called right before the request. How many attempts of this number have been begun and not ended, with this one.
    pub async fn begin(&self, key: DeliveryKey, attempt: i32) -> Result<u32, Stopping> {
        let begin = || suspects::begin(&self.db, key, attempt);
        until_answered(&self.abandon, "begin with a suspect", begin).await
    }

    /// Our own code has failed at it, which counts like the death of a worker. True: so often that nobody shall try again.
    pub async fn failed(&self, key: DeliveryKey, attempt: i32) -> Result<bool, Stopping> {
        Ok(is_proven(self.begin(key, attempt).await?))
    }

    /// A stop of our own is no death. Best effort: the process ends now, whatever the database does.
    pub async fn take_back(&self, key: DeliveryKey, attempt: i32) {
        let take_back = timeout(LAST_WORD, suspects::take_back(&self.db, key, attempt));
        let taken_back = take_back.await.unwrap_or(Err(StoreError::TimedOut(LAST_WORD)));
        if let Err(error) = taken_back {
            tracing::warn!(%error, event_id = %key.event_id, endpoint_id = %key.endpoint_id, attempt,
                "an attempt that was abandoned counts as one that killed its worker");
        }
    }

    /// It has ended one way or the other; a requeue starts without suspicion.
    pub async fn release(&self, key: DeliveryKey) -> Result<(), Stopping> {
        until_answered(&self.abandon, "forget a suspect", || suspects::end(&self.db, key)).await
    }
}
