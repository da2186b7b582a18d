//! Trying messages that workers may have died of, so that only the guilty one is ended as poison.

use tokio::sync::SemaphorePermit;

use super::Context;
use super::coalesce::{Stopping, persist};
use crate::domain::delivery::Received;
use crate::domain::ids::DeliveryKey;
use crate::domain::suspicion::{Trial, trial};
use crate::store::suspects;

pub(super) enum Suspicion<'a> {
    None,
    Suspect(Suspect<'a>),
    /// It has killed its workers.
    Proven,
}

pub(super) struct Suspect<'a> {
    context: &'a Context,
    key: DeliveryKey,
    attempt: i32,
    /// No other suspect is tried meanwhile.
    _alone: Option<SemaphorePermit<'a>>,
}

pub(super) async fn about(context: &Context, received: Received, key: DeliveryKey) -> Result<Suspicion<'_>, Stopping> {
    if !received.is_suspect() {
        return Ok(Suspicion::None);
    }
    let attempt = received.attempt;
    let read = || suspects::unfinished(&context.db, key, attempt);
    let alone = match trial(persist(&context.abandon, "read a suspect", read).await?) {
        Trial::Never => return Ok(Suspicion::Proven),
        Trial::BesideOthers => None,
        Trial::Alone => {
            tracing::warn!(event_id = %key.event_id, endpoint_id = %key.endpoint_id, attempt,
                "workers may have died of this message; no other such message is tried beside it");
            tokio::select! {
                alone = context.alone.acquire() => Some(alone.map_err(|_| Stopping)?),
                () = context.abandon.cancelled() => return Err(Stopping),
            }
        }
    };
    Ok(Suspicion::Suspect(Suspect { context, key, attempt, _alone: alone }))
}

impl Suspicion<'_> {
    /// Right before the request.
    pub async fn begin(&self) -> Result<(), Stopping> {
        let Suspicion::Suspect(suspect) = self else { return Ok(()) };
        begin(suspect.context, suspect.key, suspect.attempt).await.map(drop)
    }

    /// Right after it.
    pub async fn end(self) -> Result<(), Stopping> {
        let Suspicion::Suspect(suspect) = self else { return Ok(()) };
        forget(suspect.context, suspect.key).await
    }
}

/// How many attempts of this number have been begun and not ended, with this one.
async fn begin(context: &Context, key: DeliveryKey, attempt: i32) -> Result<u32, Stopping> {
    let begin = || suspects::begin(&context.db, key, attempt);
    persist(&context.abandon, "begin with a suspect", begin).await
}

/// Our own code has failed at it, which counts like the death of a worker. True: so often that nobody shall try again.
pub(super) async fn failed(context: &Context, key: DeliveryKey, attempt: i32) -> Result<bool, Stopping> {
    Ok(trial(begin(context, key, attempt).await?) == Trial::Never)
}

/// It has ended one way or the other; a requeue starts without suspicion.
pub(super) async fn forget(context: &Context, key: DeliveryKey) -> Result<(), Stopping> {
    persist(&context.abandon, "forget a suspect", || suspects::end(&context.db, key)).await
}
