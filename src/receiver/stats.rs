//! What the test receiver counts.

use std::collections::HashMap;

use serde::Serialize;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    pub requests: u64,
    /// Answered with 2xx.
    pub ok: u64,
    /// Ended in any other way: another status, a reset, a client that gave up.
    pub failed: u64,
    /// Carried a right signature, or none that does (401). Both stay 0 without secrets.
    pub verified: u64,
    pub rejected: u64,
    /// Distinct webhook ids.
    pub ids: u64,
    /// 2xx answers to an id beyond its first.
    pub duplicates: u64,
    pub max_concurrent: u64,
    /// Arrival of the first and of the last request, in milliseconds since 1970.
    pub first_at_ms: Option<u64>,
    pub last_at_ms: Option<u64>,
}

/// The counters and what they are counted from.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub stats: Stats,
    in_flight: u64,
    seen: HashMap<Box<str>, Seen>,
    max_ids: usize,
}

#[derive(Debug, Default)]
struct Seen {
    requests: u32,
    ok: u64,
}

impl Ledger {
    /// Ids beyond `max_ids` are answered, but neither counted as ids nor checked for duplicates.
    pub fn new(max_ids: usize) -> Ledger {
        Ledger { max_ids, ..Ledger::default() }
    }

    pub fn arrived(&mut self, now_ms: u64) {
        self.in_flight += 1;
        self.stats.requests += 1;
        self.stats.max_concurrent = self.stats.max_concurrent.max(self.in_flight);
        self.stats.first_at_ms.get_or_insert(now_ms);
        self.stats.last_at_ms = Some(now_ms);
    }

    /// Which request of this id it is, counted from 1.
    pub fn nth(&mut self, id: &str) -> u32 {
        if let Some(seen) = self.seen.get_mut(id) {
            seen.requests += 1;
            return seen.requests;
        }
        if self.seen.len() < self.max_ids {
            self.seen.insert(id.into(), Seen { requests: 1, ok: 0 });
            self.stats.ids += 1;
        }
        1
    }

    pub fn ended(&mut self, id: Option<&str>, ok: bool) {
        self.in_flight -= 1;
        if !ok {
            self.stats.failed += 1;
            return;
        }
        self.stats.ok += 1;
        if let Some(seen) = id.and_then(|id| self.seen.get_mut(id)) {
            seen.ok += 1;
            self.stats.duplicates += u64::from(seen.ok > 1);
        }
    }

    /// Each id with its number of 2xx answers.
    pub fn ids(&self) -> HashMap<String, u64> {
        self.seen.iter().map(|(id, seen)| (id.to_string(), seen.ok)).collect()
    }

    /// Counts from zero again; requests in flight are still there.
    pub fn reset(&mut self) {
        *self = Ledger { in_flight: self.in_flight, ..Ledger::new(self.max_ids) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_success_of_an_id_is_a_duplicate_and_a_retry_after_a_failure_is_not() {
        let mut ledger = Ledger::new(10);
        for (id, ok) in [("a", false), ("a", true), ("b", true), ("a", true)] {
            ledger.arrived(5);
            ledger.nth(id);
            ledger.ended(Some(id), ok);
        }
        let stats = &ledger.stats;
        assert_eq!((stats.requests, stats.ok, stats.failed, stats.ids, stats.duplicates), (4, 3, 1, 2, 1));
        assert_eq!(ledger.ids(), HashMap::from([("a".into(), 2), ("b".into(), 1)]));
    }

    #[test]
    fn memory_is_bounded_and_a_reset_keeps_what_is_in_flight() {
        let mut ledger = Ledger::new(1);
        ledger.arrived(1);
        ledger.arrived(2);
        assert_eq!((ledger.nth("a"), ledger.nth("b"), ledger.nth("b"), ledger.nth("a")), (1, 1, 1, 2));
        assert_eq!((ledger.stats.ids, ledger.stats.max_concurrent, ledger.stats.first_at_ms), (1, 2, Some(1)));
        ledger.reset();
        ledger.ended(Some("a"), true);
        ledger.ended(None, true);
        assert_eq!((ledger.stats.requests, ledger.stats.ok, ledger.in_flight), (0, 2, 0));
    }
}
