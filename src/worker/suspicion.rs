//! Trying messages that workers may have died of, so that only the guilty one is ended as poison.

use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use super::Context;
use super::coalesce::{Stopping, persist};
use crate::domain::ids::DeliveryKey;
use crate::domain::suspicion::{Trial, trial};
use crate::store::{StoreError, suspects};

/// How long a suspect waits for the trial of another one with a place in its hands that others need.
const PATIENCE: Duration = Duration::from_millis(300);
/// For taking back what was begun, at the end of the grace period.
const LAST_WORD: Duration = Duration::from_millis(500);

pub(super) enum Suspicion {
    None,
    Suspect(Suspect),
    /// Another suspect is being tried.
    Waits,
    /// It has killed its workers.
    Proven,
}

/// Until its attempt is recorded.
pub struct Suspect {
    /// No other suspect is tried meanwhile.
    _alone: Option<OwnedSemaphorePermit>,
}

/// What to do with the message that is suspected.
pub(super) async fn about(context: &Context, key: DeliveryKey, attempt: i32) -> Result<Suspicion, Stopping> {
    let read = || suspects::unfinished(&context.db, key, attempt);
    let alone = match trial(persist(&context.abandon, "read a suspect", read).await?) {
        Trial::Never => return Ok(Suspicion::Proven),
        Trial::BesideOthers => None,
        Trial::Alone => {
            tracing::warn!(event_id = %key.event_id, endpoint_id = %key.endpoint_id, attempt,
                "workers may have died of this message; no other such message is tried beside it");
            let Ok(alone) = timeout(PATIENCE, context.alone.clone().acquire_owned()).await else {
                return Ok(Suspicion::Waits);
            };
            Some(alone.map_err(|_| Stopping)?)
        }
    };
    Ok(Suspicion::Suspect(Suspect { _alone: alone }))
}

/// To be called right before the request. How many attempts of this number have been begun and not ended, with this one.
pub(super) async fn begin(context: &Context, key: DeliveryKey, attempt: i32) -> Result<u32, Stopping> {
    let begin = || suspects::begin(&context.db, key, attempt);
    persist(&context.abandon, "begin with a suspect", begin).await
}

/// Our own code has failed at it, which counts like the death of a worker. True: so often that nobody shall try again.
pub(super) async fn failed(context: &Context, key: DeliveryKey, attempt: i32) -> Result<bool, Stopping> {
    Ok(trial(begin(context, key, attempt).await?) == Trial::Never)
}

/// A stop of our own is no death. Best effort: the process ends now, whatever the database does.
pub(super) async fn abandon(context: &Context, key: DeliveryKey, attempt: i32) {
    let take_back = timeout(LAST_WORD, suspects::take_back(&context.db, key, attempt));
    let taken_back = take_back.await.unwrap_or(Err(StoreError::TimedOut(LAST_WORD)));
    if let Err(error) = taken_back {
        tracing::warn!(%error, event_id = %key.event_id, endpoint_id = %key.endpoint_id, attempt,
            "an attempt that was abandoned counts as one that killed its worker");
    }
}

/// It has ended one way or the other; a requeue starts without suspicion.
pub(super) async fn forget(context: &Context, key: DeliveryKey) -> Result<(), Stopping> {
    persist(&context.abandon, "forget a suspect", || suspects::end(&context.db, key)).await
}
