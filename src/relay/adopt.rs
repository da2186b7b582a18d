//! Adoption: what is listed, and whose relay will not publish it any more, is published in pages.

use tokio_util::sync::CancellationToken;

use super::publish::Publishing;
use crate::store::locks::Session;
use crate::store::{StoreError, relay_batches};

/// Batches looked at in one go.
const BATCHES: i64 = 100;

/// Publishes what relays that are gone have listed and not seen confirmed.
pub(super) async fn of_the_gone(
    publishing: &Publishing,
    session: &Session,
    relay: i32,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let mut result = Ok(());
    for other in relay_batches::other_relays(&publishing.db, relay.into()).await? {
        let Ok(lock) = i32::try_from(other) else { continue };
        if !session.try_relay(lock).await? {
            continue;
        }
        let adopted = batches(publishing, other, &[], stop).await;
        session.release_relay(lock).await?;
        result = result.and(adopted);
    }
    result
}

/// Publishes what this relay has listed itself without knowing: a statement was committed, and the answer was lost.
pub(super) async fn strays(
    publishing: &Publishing,
    relay: i64,
    known: &[i64],
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    batches(publishing, relay, known, stop).await
}

/// One that cannot be published (a statement may take too long for it) leaves the others their turn; the first error is
/// returned.
async fn batches(
    publishing: &Publishing,
    relay: i64,
    except: &[i64],
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let mut result = Ok(());
    for batch in relay_batches::of_relay(&publishing.db, relay, except, BATCHES).await? {
        let adopted = tokio::select! {
            adopted = one(publishing, relay, batch) => adopted,
            () = stop.cancelled() => return result,
        };
        if let Err(StoreError::Unavailable(_)) = adopted {
            return adopted;
        }
        result = result.and(adopted);
    }
    result
}

/// The listing goes when the last page is confirmed. Whatever is interrupted is adopted again from its beginning; what was
/// settled meanwhile is left out then.
async fn one(publishing: &Publishing, relay: i64, batch: i64) -> Result<(), StoreError> {
    let mut messages = 0;
    let mut after = None;
    loop {
        let page = relay_batches::unfinished(&publishing.db, batch, after).await?;
        let Some(last) = page.last().map(|message| message.key()) else { break };
        messages += page.len();
        after = Some(last);
        publishing.due(page).await;
    }
    tracing::info!(relay, batch, messages, "adopted a batch that nobody else would publish");
    relay_batches::unlist(&publishing.db, &[batch]).await
}
