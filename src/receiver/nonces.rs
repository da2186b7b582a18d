//! Which events this process has handled lately: a replay within the tolerance has no second effect.
//!
//! It is forgotten with the process, and other processes do not know of it: the inbox has neither gap. Nothing is forgotten
//! before its time, so that a burst cannot make room for a replay: what does not fit is refused.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// Events that are remembered unless set otherwise; about 150 bytes each.
pub const DEFAULT_CAPACITY: usize = 100_000;
/// How long an event is remembered unless set otherwise. A signature made by a clock that is ahead is good for twice the
/// tolerance.
pub const DEFAULT_TTL: Duration = Duration::from_secs(600);

/// Clones share what they remember.
#[derive(Debug, Clone)]
pub struct NonceCache {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    capacity: usize,
    ttl: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Every event in progress or remembered; true: handled.
    events: HashMap<Arc<str>, bool>,
    /// The handled ones, in the order in which they are forgotten.
    handled: VecDeque<(SystemTime, Arc<str>)>,
}

#[derive(Debug)]
pub enum Nonce {
    /// Handle it. Unless the permit is kept, the event may come again.
    New(Permit),
    /// Handled before: a success, without doing anything.
    Handled,
    /// Being handled at this moment.
    InProgress,
    /// There is no room; in this time there will be.
    Full(Duration),
}

/// An event that is being handled. Dropping it forgets the event.
#[derive(Debug)]
pub struct Permit {
    shared: Arc<Shared>,
    id: Arc<str>,
    kept: bool,
}

impl Default for NonceCache {
    fn default() -> NonceCache {
        NonceCache::new(DEFAULT_CAPACITY, DEFAULT_TTL)
    }
}

impl NonceCache {
    /// Give `ttl` twice the verifier's tolerance, or more.
    pub fn new(capacity: usize, ttl: Duration) -> NonceCache {
        NonceCache { shared: Arc::new(Shared { capacity, ttl, state: Mutex::default() }) }
    }

    pub fn claim(&self, id: &str, now: SystemTime) -> Nonce {
        let mut state = self.shared.state();
        state.forget(now);
        match state.events.get(id) {
            Some(true) => return Nonce::Handled,
            Some(false) => return Nonce::InProgress,
            None => {}
        }
        if state.events.len() >= self.shared.capacity {
            let next = state.handled.front().and_then(|(until, _)| until.duration_since(now).ok());
            return Nonce::Full(next.unwrap_or(Duration::from_secs(1)));
        }
        let id: Arc<str> = id.into();
        state.events.insert(id.clone(), false);
        Nonce::New(Permit { shared: self.shared.clone(), id, kept: false })
    }
}

impl Permit {
    /// The event was handled, and is remembered from now on.
    pub fn keep(mut self, now: SystemTime) {
        self.kept = true;
        let mut state = self.shared.state();
        state.events.insert(self.id.clone(), true);
        state.handled.push_back((now + self.shared.ttl, self.id.clone()));
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if !self.kept {
            self.shared.state().events.remove(&self.id);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget(&mut self, now: SystemTime) {
        while self.handled.front().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, id)) = self.handled.pop_front() {
                self.events.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: SystemTime = SystemTime::UNIX_EPOCH;

    fn at(seconds: u64) -> SystemTime {
        START + Duration::from_secs(seconds)
    }

    fn permit(cache: &NonceCache, id: &str, now: SystemTime) -> Permit {
        match cache.claim(id, now) {
            Nonce::New(permit) => permit,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_event_is_new_once_until_it_is_forgotten() {
        let cache = NonceCache::new(10, Duration::from_secs(60));
        let first = permit(&cache, "a", START);
        assert!(matches!(cache.clone().claim("a", START), Nonce::InProgress));
        first.keep(at(1));
        assert!(matches!(cache.claim("a", at(60)), Nonce::Handled));
        permit(&cache, "a", at(61)).keep(at(61));
    }

    #[test]
    fn what_failed_may_come_again() {
        let cache = NonceCache::default();
        drop(permit(&cache, "a", START));
        permit(&cache, "a", START).keep(START);
        assert!(matches!(cache.claim("a", START), Nonce::Handled));
    }

    #[test]
    fn a_full_cache_refuses_and_forgets_nothing_before_its_time() {
        let cache = NonceCache::new(2, Duration::from_secs(60));
        permit(&cache, "a", START).keep(START);
        let second = permit(&cache, "b", at(1));
        assert!(matches!(cache.claim("c", at(20)), Nonce::Full(wait) if wait == Duration::from_secs(40)));
        assert!(matches!(cache.claim("a", at(20)), Nonce::Handled));
        second.keep(at(30));
        permit(&cache, "c", at(60)).keep(at(60));
        assert!(matches!(cache.claim("d", at(61)), Nonce::Full(_)));
        assert!(cache.shared.state().handled.len() == 2 && cache.shared.state().events.len() == 2);
    }
}
