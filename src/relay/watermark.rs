//! Where the next claim begins to read the outbox.
//!
//! Deleted rows stay in the index until no snapshot can see them, so under a snapshot held elsewhere a claim from the
//! beginning gets slower and slower. A lower bound keeps it flat. But a transaction may commit late, with ids below the
//! bound; a full sweep from the beginning finds those. Sweeping is what guarantees, the bound only makes it cheap.

use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::domain::ids;

/// Rows that commit a little out of order are still found without a sweep.
const MARGIN_MS: i64 = 250;
/// A sweep that took less than this is the normal way to claim.
const CHEAP: Duration = Duration::from_millis(5);
/// Otherwise a sweep comes at the latest after this, or after twenty times its duration.
const RARELY: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub struct Watermark {
    bound: Uuid,
    sweep_took: Duration,
    last_sweep: Option<Instant>,
    sweep_now: bool,
}

/// How to read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Sweep,
    Bound(Uuid),
}

impl From {
    pub fn id(self) -> Uuid {
        match self {
            From::Sweep => Uuid::nil(),
            From::Bound(id) => id,
        }
    }
}

impl Default for Watermark {
    fn default() -> Watermark {
        Watermark { bound: Uuid::nil(), sweep_took: Duration::ZERO, last_sweep: None, sweep_now: true }
    }
}

impl Watermark {
    pub fn next(&self, now: Instant) -> From {
        let due = match self.last_sweep {
            None => true,
            Some(last) => now.saturating_duration_since(last) >= RARELY.max(self.sweep_took * 20),
        };
        if self.sweep_now || due || self.sweep_took < CHEAP { From::Sweep } else { From::Bound(self.bound) }
    }

    /// What a claim found, and how long it took.
    pub fn claimed(&mut self, from: From, highest: Option<Uuid>, took: Duration, now: Instant) {
        if from == From::Sweep {
            self.sweep_took = took;
            self.last_sweep = Some(now);
            self.sweep_now = false;
        }
        if let Some(highest) = highest {
            self.bound = self.bound.max(ids::floor(ids::unix_ms(highest) - MARGIN_MS));
        }
    }

    /// The next claim must see everything: before sleeping, after a failure, after a wake-up.
    pub fn sweep_next(&mut self) {
        self.sweep_now = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_MS: i64 = 1_700_000_000_000;

    #[test]
    fn cheap_sweeps_are_the_rule_and_dear_ones_are_rationed() {
        let start = Instant::now();
        let mut mark = Watermark::default();
        assert_eq!(mark.next(start), From::Sweep);
        mark.claimed(From::Sweep, Some(ids::floor(HOUR_MS)), Duration::from_millis(2), start);
        assert_eq!(mark.next(start), From::Sweep, "cheap");
        mark.claimed(From::Sweep, Some(ids::floor(HOUR_MS)), Duration::from_millis(100), start);
        let bound = From::Bound(ids::floor(HOUR_MS - MARGIN_MS));
        assert_eq!(mark.next(start + Duration::from_millis(1_999)), bound);
        assert_eq!(mark.next(start + Duration::from_millis(2_000)), From::Sweep, "twenty times its duration");
        mark.sweep_next();
        assert_eq!(mark.next(start).id(), Uuid::nil());
    }

    #[test]
    fn the_bound_only_moves_forward() {
        let now = Instant::now();
        let mut mark = Watermark::default();
        mark.claimed(From::Sweep, Some(ids::floor(HOUR_MS)), Duration::from_secs(1), now);
        mark.claimed(From::Bound(Uuid::nil()), Some(ids::floor(HOUR_MS - 10_000)), Duration::ZERO, now);
        mark.claimed(From::Bound(Uuid::nil()), None, Duration::ZERO, now);
        assert_eq!(mark.next(now), From::Bound(ids::floor(HOUR_MS - MARGIN_MS)));
    }
}
