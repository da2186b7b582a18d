//! Which endpoints have lately answered promptly. Kept apart from their gates, and much smaller: a gate is forgotten when
//! nothing happens at its endpoint for a minute.

use std::collections::HashSet;
use std::hash::Hash;

/// An endpoint is forgotten once to twice this time after its last prompt answer.
const KEPT_MS: u64 = 600_000;
/// Endpoints in each half. Beyond it the older half goes.
const MOST: usize = 100_000;

/// Two halves, of which the older one is dropped as a whole: nothing is looked through.
#[derive(Debug)]
pub struct Familiar<K> {
    young: HashSet<K>,
    old: HashSet<K>,
    turned_ms: u64,
}

impl<K> Default for Familiar<K> {
    fn default() -> Familiar<K> {
        Familiar { young: HashSet::new(), old: HashSet::new(), turned_ms: 0 }
    }
}

impl<K: Eq + Hash> Familiar<K> {
    /// It has answered promptly.
    pub fn greet(&mut self, endpoint: K, now_ms: u64) {
        self.turn(now_ms);
        self.young.insert(endpoint);
    }

    /// It does not answer promptly any more.
    pub fn forget(&mut self, endpoint: &K) {
        self.young.remove(endpoint);
        self.old.remove(endpoint);
    }

    pub fn knows(&mut self, endpoint: &K, now_ms: u64) -> bool {
        self.turn(now_ms);
        self.young.contains(endpoint) || self.old.contains(endpoint)
    }

    fn turn(&mut self, now_ms: u64) {
        let past = now_ms.saturating_sub(self.turned_ms);
        if past >= KEPT_MS || self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
            self.turned_ms = now_ms;
        }
        if past >= 2 * KEPT_MS {
            self.old.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_promptly_is_known_for_a_while_and_until_it_does_not() {
        let mut familiar = Familiar::default();
        familiar.greet(1, 0);
        familiar.greet(2, 1);
        assert!(familiar.knows(&1, 1) && !familiar.knows(&3, 1));
        familiar.forget(&2);
        assert!(!familiar.knows(&2, 2), "it was slow");
        familiar.greet(3, KEPT_MS);
        assert!(familiar.knows(&1, KEPT_MS) && familiar.knows(&3, KEPT_MS));
        familiar.forget(&1);
        familiar.greet(4, KEPT_MS);
        assert!(!familiar.knows(&1, KEPT_MS), "also from the older half");
        assert!(familiar.knows(&3, 2 * KEPT_MS) && !familiar.knows(&3, 3 * KEPT_MS));
        familiar.greet(5, 3 * KEPT_MS);
        assert!(!familiar.knows(&5, 9 * KEPT_MS), "nothing happened for long");
    }

    #[test]
    fn no_more_are_kept_than_two_halves() {
        let mut familiar = Familiar::default();
        (0..5 * MOST).for_each(|endpoint| familiar.greet(endpoint, 0));
        assert!(familiar.young.len() + familiar.old.len() <= 2 * MOST);
        assert!(familiar.knows(&(5 * MOST - 1), 0) && !familiar.knows(&0, 0));
    }
}
