//! The endpoints that this worker sends to, in memory; changes by plain SQL apply within a second.
//!
//! An endpoint is read, and its secrets are opened, when it is first sent to; one that changes is forgotten and read again
//! by whoever needs it next. So neither memory nor work grows with endpoints that nothing happens at.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::coalesce::{Together, together};
use super::database::{Stopping, until_answered};
use super::known::Known;
use super::ready::Ready;
use crate::domain::sealing::Keyring;
use crate::http::rules::Rules;
use crate::reconnect::Backoff;
use crate::store::wake::{Alarm, ENDPOINTS, Wake};
use crate::store::{Db, StoreError, sendable};

/// Reads of endpoints that begin within this time are one statement.
const GATHER: Duration = Duration::from_millis(1);
/// A change that was not heard of is found at the latest then.
const CHECK: Duration = Duration::from_secs(30);
/// An endpoint without traffic for this long is forgotten.
const IDLE: Duration = Duration::from_secs(600);
/// Without LISTEN (behind a transaction pooler) the worker compares versions this often, and of few endpoints.
const POLL: Duration = Duration::from_millis(900);
const POLL_IDLE: Duration = Duration::from_secs(10);
/// Endpoints that one statement compares.
const COMPARED: usize = 1_000;

/// Shared by all tasks. Getting an endpoint waits for the database only where it is not known.
#[derive(Clone)]
pub struct EndpointCache {
    db: Db,
    known: Arc<Known>,
    reader: Together<Uuid, Option<Arc<Ready>>>,
}

/// The endpoint as it is now, `None` when there is no such endpoint: for commands.
pub async fn load(db: &Db, keys: &Keyring, rules: &Rules, id: Uuid) -> Result<Option<Ready>, StoreError> {
    Ok(sendable::read(db, &[id]).await?.pop().map(|stored| Ready::open(stored, keys, rules)))
}

impl EndpointCache {
    /// The cache, and the task that reads for it. One statement at a time, so an older answer never replaces a newer one.
    pub fn new(
        db: Db,
        keys: Keyring,
        rules: Rules,
        abandon: CancellationToken,
    ) -> (EndpointCache, impl Future<Output = ()>) {
        let known = Arc::new(Known::default());
        let (reader, reading) = together(GATHER, {
            let (db, known) = (db.clone(), known.clone());
            async move |ids: &[Uuid]| {
                known.reading();
                let stored = until_answered(&abandon, "read endpoints", || sendable::read(&db, ids)).await?;
                let read: Vec<Arc<Ready>> =
                    stored.into_iter().map(|s| Arc::new(Ready::open(s, &keys, &rules))).collect();
                known.add(&read);
                let found = |id| read.iter().find(|ready| ready.id == id).cloned();
                Ok(ids.iter().map(|id| found(*id)).collect())
            }
        });
        (EndpointCache { db, known, reader }, reading)
    }

    /// The endpoint, or `None` when it was removed.
    pub async fn get(&self, id: Uuid) -> Result<Option<Arc<Ready>>, Stopping> {
        match self.known.get(id) {
            Some(ready) => Ok(Some(ready)),
            None => self.reader.ask(id).await,
        }
    }

    /// Its state is another one now, as this worker knows: nobody here may act on the old one.
    pub fn forget(&self, id: Uuid) {
        self.known.forget(id);
    }

    /// Applies changes until told to stop.
    pub async fn keep_fresh(self, listen: bool, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        while !stop.is_cancelled() {
            let result = tokio::select! {
                result = async { if listen { self.follow(&mut backoff).await } else { self.poll(&mut backoff).await } } => result,
                () = stop.cancelled() => return,
            };
            if let Err(error) = result {
                tracing::warn!(%error, "cannot follow changes of endpoints; trying again");
                backoff.pause().await;
            }
        }
    }

    /// Checking after LISTEN has begun leaves no gap in which a change is neither heard nor seen.
    async fn follow(&self, backoff: &mut Backoff) -> Result<(), StoreError> {
        let mut alarm = Alarm::listen(&self.db, ENDPOINTS).await?;
        self.check(IDLE).await?;
        backoff.reset();
        loop {
            match alarm.wait(CHECK).await? {
                Wake::Notified(id) => match Uuid::parse_str(&id) {
                    Ok(id) => self.forget(id),
                    Err(_) => self.check(IDLE).await?,
                },
                Wake::Reconnected | Wake::TimedOut => self.check(IDLE).await?,
            }
        }
    }

    async fn poll(&self, backoff: &mut Backoff) -> Result<(), StoreError> {
        self.check(POLL_IDLE).await?;
        backoff.reset();
        tokio::time::sleep(POLL).await;
        Ok(())
    }

    /// Forgets what was idle for this long, and of the rest what has changed.
    async fn check(&self, idle: Duration) -> Result<(), StoreError> {
        let known = self.known.used_within(idle);
        for part in known.chunks(COMPARED) {
            let (ids, versions): (Vec<Uuid>, Vec<&str>) = part.iter().map(|r| (r.id, r.version.as_str())).unzip();
            for id in sendable::changed(&self.db, &ids, &versions).await? {
                self.forget(id);
            }
        }
        Ok(())
    }
}
