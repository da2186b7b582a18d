//! How many requests of an endpoint are open: as its receiver counts them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Default)]
pub struct InFlight {
    open: AtomicUsize,
    most: AtomicUsize,
    watched: Mutex<Watched>,
}

/// The requests above a limit.
struct Watched {
    limit: usize,
    since: Option<Instant>,
    over: Duration,
}

impl Default for Watched {
    fn default() -> Watched {
        Watched { limit: usize::MAX, since: None, over: Duration::ZERO }
    }
}

/// A request that is open, until it is answered or given up.
pub struct Open<'a>(&'a InFlight);

impl InFlight {
    pub fn begin(&self) -> Open<'_> {
        let open = self.open.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(open, Ordering::Relaxed);
        self.look();
        Open(self)
    }

    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The most that were open at the same time, since this was asked last.
    pub fn take_most(&self) -> usize {
        self.most.swap(self.open(), Ordering::Relaxed)
    }

    /// From now on, counts the time in which more than so many are open.
    pub fn watch(&self, limit: usize) {
        *self.watched.lock().unwrap_or_else(PoisonError::into_inner) = Watched { limit, ..Watched::default() };
        self.look();
    }

    pub fn time_over(&self) -> Duration {
        self.look();
        let watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.over + watched.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn look(&self) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        match (self.open() > watched.limit, watched.since) {
            (true, None) => watched.since = Some(Instant::now()),
            (false, Some(since)) => {
                watched.over += since.elapsed();
                watched.since = None;
            }
            _ => {}
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
        self.0.look();
    }
}
