//! Dead letters of days that were dropped: there is nothing left to requeue. The leader takes them from the head of the
//! dead-letter queue, where the oldest are.

use std::sync::Arc;

use crate::broker::connection::Link;
use crate::broker::dead_letters::Pass;
use crate::broker::topology::Names;
use crate::broker::{self, BrokerError};
use crate::domain::message::Message;
use crate::store::days::Day;
use crate::store::locks::{Role, Session};
use crate::store::{self, Db, StoreError, held};

/// Dead letters in hand at once, with their payloads.
const PASS: u16 = 50;
/// Passes of one time; the next one goes on.
const PASSES: u32 = 200;

/// Where they are.
pub(super) struct OldDeadLetters {
    pub db: Db,
    /// For a session that holds a lock: whoever sweeps the queue must not find some missing.
    pub session: store::Options,
    pub broker: broker::Settings,
    pub names: Names,
}

impl OldDeadLetters {
    /// Nobody waits for it, so what fails here is only said.
    pub async fn remove(&self) -> Result<(), StoreError> {
        let Some(oldest) = held::days(&self.db).await?.first().copied() else { return Ok(()) };
        let session = Session::open(&self.session).await?;
        if session.try_role(Role::Requeue).await? {
            match self.before(oldest).await {
                Ok(0) => {}
                Ok(removed) => tracing::info!(removed, "dead letters whose day of history is gone were removed"),
                Err(error) => tracing::warn!(%error, "the dead-letter queue was not cleared of what is too old"),
            }
        }
        session.close().await;
        Ok(())
    }

    async fn before(&self, oldest: Day) -> Result<u64, BrokerError> {
        let link = Arc::new(Link::open(&self.broker, "posthaste relay dead letters").await?);
        let mut removed = 0;
        for _ in 0..PASSES {
            let of_pass = remove_from_head(&link, &self.names.dead(), oldest).await?;
            removed += of_pass;
            if of_pass == 0 {
                break;
            }
        }
        link.close().await;
        Ok(removed)
    }
}

/// What stays is returned to its place by closing the pass.
async fn remove_from_head(link: &Arc<Link>, queue: &str, oldest: Day) -> Result<u64, BrokerError> {
    let mut pass = Pass::open(link.clone(), queue, PASS).await?;
    let dead_letters = pass.next(PASS.into()).await?;
    pass.cancel().await?;
    let is_old = |message: &Message| Day::of(message.event_id) < oldest;
    let mut removed = 0;
    for dead_letter in dead_letters {
        if dead_letter.content.message().is_some_and(is_old) {
            pass.acknowledger().ack(dead_letter.tag, false).await?;
            removed += 1;
        }
    }
    pass.close().await;
    Ok(removed)
}
