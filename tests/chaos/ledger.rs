//! What the producers know: which events they committed, and which they did not.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use uuid::Uuid;

use crate::chaos::schedule::ENDPOINTS;

pub const TENANT: &str = "acme";

/// The types of events, and which endpoints take them. Of the first two, number 0 takes everything; each other one is for one
/// endpoint alone.
pub const TYPES: [(&str, [bool; ENDPOINTS]); 5] = [
    ("order.created", [true, true, false]),
    ("mail.sent", [true, false, true]),
    ("stock.counted", [true, false, false]),
    ("user.joined", [false, true, false]),
    ("invoice.paid", [false, false, true]),
];
/// Types that go to two endpoints come first.
pub const FOR_TWO: usize = 2;

/// Seconds since the start of the run.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    pub fn start() -> Clock {
        Clock(Instant::now())
    }

    pub fn now(self) -> f64 {
        self.0.elapsed().as_secs_f64()
    }
}

pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Tells two payloads apart.
pub fn fingerprint(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    payload.hash(&mut hasher);
    hasher.finish()
}

#[derive(Debug, Clone, Copy)]
pub struct Committed {
    /// When the commit was known.
    pub at: f64,
    pub event_type: usize,
    pub fingerprint: u64,
}

#[derive(Debug, Default)]
pub struct Books {
    pub committed: HashMap<Uuid, Committed>,
    /// Ids whose transaction was rolled back, on purpose or by a fault.
    pub never: HashSet<Uuid>,
    pub transactions: u64,
    pub rolled_back: u64,
    pub late: u64,
    /// Commits whose answer was lost, and which were looked up.
    pub uncertain: u64,
    pub keyed: u64,
    /// Acknowledged, and lost with a primary of PostgreSQL that nobody waited for.
    pub lost: HashSet<Uuid>,
    /// Idempotency keys that gave two events.
    pub doubled_keys: Vec<String>,
}

#[derive(Default)]
pub struct Ledger(Mutex<Books>);

impl Ledger {
    pub fn books(&self) -> MutexGuard<'_, Books> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are committed no more.
    pub fn lose(&self, ids: &[Uuid]) {
        let mut books = self.books();
        books.committed.retain(|id, _| !ids.contains(id));
        books.lost.extend(ids);
    }

    pub fn committed(&self) -> u64 {
        self.books().committed.len() as u64
    }
}
