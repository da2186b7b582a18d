//! Which endpoints have lately answered promptly. Kept apart from their gates, and much smaller: a gate is forgotten when
//! nothing happens at its endpoint for a minute.

use std::collections::HashSet;
use std::hash::Hash;

/// One that has said nothing for twice this time at most, and at least once, is not known any more.
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
    /// It has answered: promptly, or after so long that it is better not relied on.
    pub fn answered(&mut self, endpoint: K, promptly: bool, now_ms: u64) {
        let past = now_ms.saturating_sub(self.turned_ms);
        if past >= KEPT_MS || self.young.len() >= MOST {
            self.old = std::mem::take(&mut self.young);
            self.turned_ms = now_ms;
        }
        if past >= 2 * KEPT_MS {
            self.old.clear();
        }
        if promptly {
            self.young.insert(endpoint);
        } else {
            self.young.remove(&endpoint);
            self.old.remove(&endpoint);
        }
    }

    pub fn knows(&self, endpoint: &K) -> bool {
        self.young.contains(endpoint) || self.old.contains(endpoint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_promptly_is_known_for_a_while_and_until_it_does_not() {
        let mut familiar = Familiar::default();
        familiar.answered(1, true, 0);
        familiar.answered(2, true, 1);
        assert!(familiar.knows(&1) && !familiar.knows(&3));
        familiar.answered(2, false, 2);
        assert!(!familiar.knows(&2), "it was slow");
        familiar.answered(3, true, KEPT_MS);
        assert!(familiar.knows(&1) && familiar.knows(&3));
        familiar.answered(3, true, 2 * KEPT_MS);
        assert!(!familiar.knows(&1) && familiar.knows(&3), "the first has said nothing for long");
        familiar.answered(4, true, 9 * KEPT_MS);
        assert!(!familiar.knows(&3) && familiar.knows(&4));
    }

    #[test]
    fn no_more_are_kept_than_two_halves() {
        let mut familiar = Familiar::default();
        (0..5 * MOST).for_each(|endpoint| familiar.answered(endpoint, true, 0));
        assert!(familiar.young.len() + familiar.old.len() <= 2 * MOST);
        assert!(familiar.knows(&(5 * MOST - 1)) && familiar.knows(&(4 * MOST)) && !familiar.knows(&0));
    }
}
