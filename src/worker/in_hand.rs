//! One copy of a delivery at a time in this process.
//!
//! After a lost channel the broker hands out again what this worker is still busy with. The second copy waits for the
//! first one to be settled and then reads the row, instead of making the same request twice.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::domain::ids::DeliveryKey;

#[derive(Clone, Default)]
pub struct InHand(Arc<Mutex<HashMap<DeliveryKey, watch::Receiver<()>>>>);

/// Held while a message is worked on; dropping it lets the next copy go on.
pub struct Hand {
    key: DeliveryKey,
    all: InHand,
    // Dropping the sender ends the wait of the others.
    _release: watch::Sender<()>,
}

impl InHand {
    /// Waits for other copies of the same delivery. The flag says whether there was one: then the row has changed.
    pub async fn take(&self, key: DeliveryKey) -> (Hand, bool) {
        let mut waited = false;
        loop {
            let mut other = match self.try_take(key) {
                Ok(hand) => return (hand, waited),
                Err(other) => other,
            };
            waited = true;
            // Ends with an error when the other copy's hand is dropped, which is what is waited for.
            let _ = other.changed().await;
        }
    }

    fn try_take(&self, key: DeliveryKey) -> Result<Hand, watch::Receiver<()>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = all.get(&key) {
            return Err(other.clone());
        }
        let (sender, receiver) = watch::channel(());
        all.insert(key, receiver);
        Ok(Hand { key, all: self.clone(), _release: sender })
    }

    pub fn len(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Drop for Hand {
    fn drop(&mut self) {
        self.all.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn a_second_copy_waits_for_the_first_and_is_told() {
        let in_hand = InHand::default();
        let key = DeliveryKey { event_id: Uuid::nil(), endpoint_id: Uuid::nil() };
        let (first, waited) = in_hand.take(key).await;
        assert!(!waited);
        let second = tokio::spawn({
            let in_hand = in_hand.clone();
            async move { in_hand.take(key).await.1 }
        });
        tokio::task::yield_now().await;
        assert!(!second.is_finished());
        drop(first);
        assert!(second.await.unwrap());
        assert!(in_hand.is_empty());
    }
}
