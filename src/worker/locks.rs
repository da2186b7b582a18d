//! One copy of a delivery at a time in this process.
//!
//! After a lost channel the broker held out again what this worker is still busy with. The second copy waits for the
//! first one to be settled and then reads the row, instead of making the same request twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::domain::ids::DeliveryKey;

#[derive(Clone, Default)]
pub struct DeliveryLocks(Arc<Shared>);

#[derive(Default)]
struct Shared {
    held: Mutex<HashMap<DeliveryKey, watch::Receiver<()>>>,
    emptied: Notify,
}

/// Held while a message is worked on; dropping it lets the next copy go on.
pub struct DeliveryLock {
    key: DeliveryKey,
    all: DeliveryLocks,
    // Dropping the sender ends the wait of the others.
    _release: watch::Sender<()>,
}

impl DeliveryLocks {
    /// Waits for other copies of the same delivery, as long as the own one counts: `None` when it is `over`, because its
    /// channel is gone. A broker that comes and goes held out a further copy each time.
    pub async fn lock(&self, key: DeliveryKey, over: &CancellationToken) -> Option<(DeliveryLock, bool)> {
        over.run_until_cancelled(self.wait_and_lock(key)).await
    }

    /// The flag says whether there was another one: then the row has changed.
    async fn wait_and_lock(&self, key: DeliveryKey) -> (DeliveryLock, bool) {
        let mut waited = false;
        loop {
            let mut other = match self.try_lock(key) {
                Ok(lock) => return (lock, waited),
                Err(other) => other,
            };
            waited = true;
            // Ends with an error when the other copy's lock is dropped, which is what is waited for.
            let _ = other.changed().await;
        }
    }

    fn try_lock(&self, key: DeliveryKey) -> Result<DeliveryLock, watch::Receiver<()>> {
        let mut all = self.held();
        if let Some(other) = all.get(&key) {
            return Err(other.clone());
        }
        let (sender, receiver) = watch::channel(());
        all.insert(key, receiver);
        Ok(DeliveryLock { key, all: self.clone(), _release: sender })
    }

    pub fn len(&self) -> usize {
        self.held().len()
    }

    pub fn is_empty(&self) -> bool {
        self.held().is_empty()
    }

    /// Ends when there is none left, whatever channel they came by.
    pub async fn emptied(&self) {
        loop {
            let emptied = self.0.emptied.notified();
            if self.is_empty() {
                return;
            }
            emptied.await;
        }
    }

    fn held(&self) -> MutexGuard<'_, HashMap<DeliveryKey, watch::Receiver<()>>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for DeliveryLock {
    fn drop(&mut self) {
        let mut all = self.all.held();
        all.remove(&self.key);
        if all.is_empty() {
            self.all.0.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn a_second_copy_waits_for_the_first_and_is_told() {
        let locks = DeliveryLocks::default();
        let key = DeliveryKey { event_id: Uuid::nil(), endpoint_id: Uuid::nil() };
        let open = CancellationToken::new();
        let (first, waited) = locks.lock(key, &open).await.unwrap();
        assert!(!waited);
        let second = tokio::spawn({
            let locks = locks.clone();
            async move { locks.lock(key, &open).await.unwrap().1 }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        let all_done = tokio::spawn({
            let locks = locks.clone();
            async move { locks.emptied().await }
        });
        tokio::task::yield_now().await;
        assert!(!all_done.is_finished());
        drop(first);
        assert!(second.await.unwrap());
        all_done.await.unwrap();
        assert!(locks.is_empty());
    }
    #[tokio::test]
    async fn copies_that_came_by_a_channel_that_is_gone_wait_no_longer() {
        let locks = DeliveryLocks::default();
        let key = DeliveryKey { event_id: Uuid::nil(), endpoint_id: Uuid::nil() };
        let lock = locks.lock(key, &CancellationToken::new()).await.unwrap();
        for _ in 0..3 {
            let over = CancellationToken::new();
            let copy = tokio::spawn({
                let (locks, over) = (locks.clone(), over.clone());
                async move { locks.lock(key, &over).await.is_none() }
            });
            tokio::task::yield_now().await;
            assert!(!copy.is_finished());
            over.cancel();
            assert!(copy.await.unwrap());
        }
        drop(lock);
        assert!(locks.is_empty());
    }
}
