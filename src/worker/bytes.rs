//! Bytes of unacknowledged payloads. Places are counted in messages, so places full of large payloads would fill the memory.
//!
//! What the broker has handed out is in memory already, and not reading on would not keep it from handing out more. So a
//! consumer of a worker that is full is cancelled, and consumes again with fewer places when half of the bytes are free.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// What one worker may have unacknowledged, of both queues together; what was under way when it was reached comes on top.
pub const MOST_BYTES: usize = 256 << 20;
/// A large payload counts for this many messages after it.
const REMEMBERED: usize = 64;

/// Shared by both queues. Cheap to clone.
#[derive(Clone)]
pub struct UnackedBytes(Arc<Inner>);

struct Inner {
    most: usize,
    bytes: AtomicUsize,
    /// The size that a message may well have: the largest of late, fading.
    expected: AtomicUsize,
    fewer: Notify,
}

/// The bytes of one message. Dropping it gives them back.
pub struct Bytes {
    all: UnackedBytes,
    count: usize,
}

impl UnackedBytes {
    pub fn new(most: usize) -> UnackedBytes {
        let (bytes, expected) = (AtomicUsize::new(0), AtomicUsize::new(0));
        UnackedBytes(Arc::new(Inner { most, bytes, expected, fewer: Notify::new() }))
    }

    /// Counts a message that was received, however many there are.
    pub fn take(&self, count: usize) -> Bytes {
        self.0.bytes.fetch_add(count, Ordering::Relaxed);
        // Two consumers may do this at once; a lost update is as good as another order of the two.
        let faded = self.0.expected.load(Ordering::Relaxed);
        self.0.expected.store(count.max(faded - faded.div_ceil(REMEMBERED).min(faded)), Ordering::Relaxed);
        Bytes { all: self.clone(), count }
    }

    pub fn is_full(&self) -> bool {
        self.0.bytes.load(Ordering::Relaxed) >= self.0.most
    }

    /// Waits until half of the bytes are free.
    pub async fn half_free(&self) {
        loop {
            let fewer = self.0.fewer.notified();
            if self.0.bytes.load(Ordering::Relaxed) <= self.0.most / 2 {
                return;
            }
            fewer.await;
        }
    }

    /// The places of a share that has `places` in the end: as many as messages of the expected size fit.
    pub fn places(&self, places: u16) -> u16 {
        let fit = self.0.most / self.0.expected.load(Ordering::Relaxed).max(1);
        places.min(u16::try_from(fit).unwrap_or(u16::MAX)).max(1)
    }

    /// A share that consumes with `now` places should consume again with these. Fewer only when the bytes ran out: a large
    /// payload among small ones does no harm.
    pub fn change(&self, now: u16, places: u16) -> Option<u16> {
        let fit = self.places(places);
        let grows = (fit == places && now < places) || u32::from(fit) >= 2 * u32::from(now);
        (self.is_full() || grows && fit > now).then_some(fit)
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        self.all.0.bytes.fetch_sub(self.count, Ordering::Relaxed);
        self.all.0.fewer.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn a_full_worker_goes_on_when_half_is_free() {
        let bytes = UnackedBytes::new(100);
        let mut taken: Vec<Bytes> = (0..4).map(|_| bytes.take(25)).collect();
        assert!(bytes.is_full());
        assert_eq!(bytes.change(50, 50), Some(4), "four of this size fit");
        let mut waiting = std::pin::pin!(bytes.half_free());
        let pending = tokio::time::timeout(Duration::from_millis(5), waiting.as_mut()).await;
        assert!(pending.is_err());
        taken.truncate(3);
        let pending = tokio::time::timeout(Duration::from_millis(5), waiting.as_mut()).await;
        assert!(pending.is_err() && !bytes.is_full());
        taken.truncate(2);
        waiting.await;
        bytes.half_free().await;
    }

    #[test]
    fn a_lane_gets_its_places_back_when_payloads_are_small_again() {
        let bytes = UnackedBytes::new(1_000);
        drop(bytes.take(500));
        assert_eq!((bytes.change(100, 100), bytes.places(100)), (None, 2), "one large payload changes nothing");
        let (mut now, mut changes) = (bytes.places(100), 0);
        for _ in 0..1_000 {
            drop(bytes.take(1));
            if let Some(places) = bytes.change(now, 100) {
                assert!(places > now);
                (now, changes) = (places, changes + 1);
            }
        }
        assert_eq!(now, 100);
        assert!(changes <= 7, "{changes} times");
    }

    proptest! {
        /// What is given back is what was taken, and a share always has a place.
        #[test]
        fn the_books_balance(sizes in prop::collection::vec(0usize..50_000_000, 0..50), most in 1usize..1_000_000_000) {
            let bytes = UnackedBytes::new(most);
            let taken: Vec<Bytes> = sizes.iter().map(|size| bytes.take(*size)).collect();
            prop_assert_eq!(bytes.is_full(), sizes.iter().sum::<usize>() >= most);
            prop_assert!((1..=1024).contains(&bytes.places(1024)));
            drop(taken);
            prop_assert_eq!(bytes.0.bytes.load(Ordering::Relaxed), 0);
        }
    }
}
