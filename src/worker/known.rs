//! A bounded map of the endpoints in use.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::ready::Ready;

/// Endpoints in memory, about 1 KiB each. Beyond it those that were not used for longest go.
const MOST: usize = 50_000;

pub struct Known {
    start: Instant,
    all: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    endpoints: HashMap<Uuid, Entry>,
    /// Forgotten since the read under way began: what it brings of these may be from before their change. So many that it
    /// was not worth counting them: all.
    overtaken: Option<HashSet<Uuid>>,
}

struct Entry {
    ready: Arc<Ready>,
    used_ms: AtomicU64,
}

impl Default for Known {
    fn default() -> Known {
        Known { start: Instant::now(), all: RwLock::default() }
    }
}

impl Known {
    pub fn get(&self, id: Uuid) -> Option<Arc<Ready>> {
        let all = self.shared();
        let entry = all.endpoints.get(&id)?;
        entry.used_ms.store(self.now_ms(), Relaxed);
        Some(entry.ready.clone())
    }

    /// A read begins; there is never more than one.
    pub fn reading(&self) {
        self.exclusive().overtaken = Some(HashSet::new());
    }

    /// Adds what the read has brought, except for what has changed meanwhile.
    pub fn add(&self, read: &[Arc<Ready>]) {
        let now = self.now_ms();
        let mut all = self.exclusive();
        let overtaken = all.overtaken.take().unwrap_or_default();
        for ready in read {
            if overtaken.len() < MOST && !overtaken.contains(&ready.id) {
                all.endpoints.insert(ready.id, Entry { ready: ready.clone(), used_ms: now.into() });
            }
        }
        all.shrink();
    }

    pub fn forget(&self, id: Uuid) {
        let mut all = self.exclusive();
        all.endpoints.remove(&id);
        if let Some(overtaken) = all.overtaken.as_mut().filter(|overtaken| overtaken.len() < MOST) {
            overtaken.insert(id);
        }
    }

    /// Forgets what was not used for `idle`; the rest is returned.
    pub fn used_within(&self, idle: Duration) -> Vec<Arc<Ready>> {
        let since = self.now_ms().saturating_sub(idle.as_millis() as u64);
        let mut all = self.exclusive();
        all.endpoints.retain(|_, entry| *entry.used_ms.get_mut() >= since);
        all.endpoints.values().map(|entry| entry.ready.clone()).collect()
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn shared(&self) -> RwLockReadGuard<'_, Inner> {
        self.all.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn exclusive(&self) -> RwLockWriteGuard<'_, Inner> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// A tenth goes at once, so that looking for the oldest is rare.
    fn shrink(&mut self) {
        if self.endpoints.len() <= MOST {
            return;
        }
        let mut used: Vec<u64> = self.endpoints.values_mut().map(|entry| *entry.used_ms.get_mut()).collect();
        let excess = self.endpoints.len() - MOST + MOST / 10;
        let (_, bound, _) = used.select_nth_unstable(excess);
        let bound = *bound;
        // Many may have been used in the same millisecond; no more than the excess go.
        let mut at_bound = excess - used.iter().filter(|used| **used < bound).count();
        self.endpoints.retain(|_, entry| match (*entry.used_ms.get_mut()).cmp(&bound) {
            Ordering::Less => false,
            Ordering::Equal if at_bound > 0 => {
                at_bound -= 1;
                false
            }
            _ => true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ready(n: usize) -> Arc<Ready> {
        Arc::new(Ready::for_test(Uuid::from_u128(n as u128)))
    }

    #[test]
    fn what_changes_while_it_is_read_is_not_kept() {
        let known = Known::default();
        known.reading();
        known.forget(ready(1).id);
        known.add(&[ready(1), ready(2)]);
        assert!(known.get(ready(1).id).is_none() && known.get(ready(2).id).is_some());
        known.reading();
        known.add(&[ready(1)]);
        assert!(known.get(ready(1).id).is_some(), "this read began after the change");
        known.forget(ready(1).id);
        assert!(known.get(ready(1).id).is_none());
        known.reading();
        (10..MOST + 20).for_each(|n| known.forget(ready(n).id));
        known.add(&[ready(1)]);
        assert!(known.get(ready(1).id).is_none(), "who knows what has changed");
    }

    #[test]
    fn idle_endpoints_are_forgotten_and_there_are_never_too_many() {
        let known = Known::default();
        known.reading();
        known.add(&[ready(1), ready(2)]);
        known.shared().endpoints.values().for_each(|entry| entry.used_ms.store(0, Relaxed));
        std::iter::repeat_with(|| known.now_ms()).find(|now| *now > 2);
        assert!(known.get(ready(2).id).is_some());
        let left = known.used_within(Duration::from_millis(1));
        assert_eq!(left.iter().map(|ready| ready.id).collect::<Vec<_>>(), [ready(2).id]);

        known.shared().endpoints.values().for_each(|entry| entry.used_ms.store(0, Relaxed));
        let many: Vec<Arc<Ready>> = (10..MOST + 10).map(ready).collect();
        known.add(&many);
        assert_eq!(known.shared().endpoints.len(), MOST - MOST / 10);
        assert!(known.get(ready(2).id).is_none(), "the one that was used first");
    }
}
