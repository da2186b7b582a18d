//! What this worker has seen of an endpoint lately, for `posthaste endpoint show`.

use std::collections::{HashSet, VecDeque};

use uuid::Uuid;

use crate::domain::circuit::Health;
use crate::domain::gate::Limited;
use crate::domain::outcome::OurFault;
use crate::store::activity::{self, Report};

/// Half of the time that attempts are counted over.
const HALF_MINUTE_MS: u64 = 30_000;

/// Attempts of this half minute and of the one before it.
#[derive(Debug, Default)]
pub struct Seen {
    half: u64,
    now: Count,
    before: Count,
    /// With the moment in which it came.
    last_error: Option<(String, u64)>,
    reported: Option<(i32, Count)>,
    /// The last report said that it is limited.
    said_limited: bool,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Count {
    attempts: i32,
    failures: i32,
}

impl Seen {
    pub fn attempt(&mut self, health: Health, error: Option<String>, now_ms: u64) {
        self.roll(now_ms);
        self.now.attempts += 1;
        self.now.failures += i32::from(health == Health::Bad);
        self.last_error = error.map(|error| (error, now_ms)).or(self.last_error.take());
    }

    /// One that a fault of ours has ended says nothing of the endpoint, but it was one.
    pub fn fault(&mut self, fault: OurFault, now_ms: u64) {
        self.roll(now_ms);
        self.now.attempts += 1;
        self.last_error = Some((fault.text().to_owned(), now_ms));
    }

    fn roll(&mut self, now_ms: u64) {
        let half = now_ms / HALF_MINUTE_MS;
        if half != self.half {
            self.before = if half == self.half + 1 { self.now } else { Count::default() };
            (self.now, self.half) = (Count::default(), half);
        }
    }

    fn sum(&self) -> Count {
        Count {
            attempts: self.now.attempts.saturating_add(self.before.attempts),
            failures: self.now.failures.saturating_add(self.before.failures),
        }
    }

    /// The figures, if they are others than the last ones that were reported. What holds on is said again and again: who is
    /// silent is gone.
    pub fn report(
        &mut self,
        endpoint_id: Uuid,
        in_flight: usize,
        limited: Option<Limited>,
        now_ms: u64,
    ) -> Option<Report> {
        self.roll(now_ms);
        let said = (in_flight as i32, self.sum());
        let was_limited = std::mem::replace(&mut self.said_limited, limited.is_some());
        if self.reported == Some(said) && in_flight == 0 && limited.is_none() && !was_limited {
            return None;
        }
        self.reported = Some(said);
        let Count { attempts, failures } = said.1;
        let limited = limited.map(|limited| activity::Limited {
            by: limited.by.as_str(),
            since_ms: now_ms.saturating_sub(limited.since_ms) as i64,
            for_ms: limited.until_ms.saturating_sub(now_ms) as i64,
        });
        let last_error = self
            .last_error
            .clone()
            .map(|(error, at)| activity::LastError { error, ago_ms: now_ms.saturating_sub(at) as i64 });
        Some(Report { endpoint_id, in_flight: said.0, attempts, failures, last_error, limited })
    }

    /// Nothing happened for a minute, and that was reported.
    pub fn is_over(&mut self, now_ms: u64) -> bool {
        self.roll(now_ms);
        !self.said_limited
            && self.sum() == Count::default()
            && self.reported.is_none_or(|said| said == (0, Count::default()))
    }
}

/// The endpoints that a report has to say something of, each once, in the order in which they turned up: no one waits for
/// ever behind others that are always busy.
#[derive(Debug, Default)]
pub struct Changed {
    order: VecDeque<Uuid>,
    listed: HashSet<Uuid>,
}

impl Changed {
    pub fn note(&mut self, endpoint: Uuid) {
        if self.listed.insert(endpoint) {
            self.order.push_back(endpoint);
        }
    }

    /// The next ones, at most `most`. Who is not done (in flight, or a minute that is not over) is noted again.
    pub fn take(&mut self, most: usize) -> Vec<Uuid> {
        let taken: Vec<Uuid> = self.order.drain(..most.min(self.order.len())).collect();
        taken.iter().for_each(|endpoint| {
            self.listed.remove(endpoint);
        });
        taken
    }

    /// Forgets the others.
    pub fn retain(&mut self, is_known: impl Fn(&Uuid) -> bool) {
        self.listed.retain(is_known);
        self.order.retain(|endpoint| self.listed.contains(endpoint));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::gate::Why;

    #[test]
    fn every_endpoint_that_changes_has_its_turn() {
        let mut changed = Changed::default();
        let id = |n| Uuid::from_u128(n);
        [1, 2, 1, 3].into_iter().for_each(|n| changed.note(id(n)));
        assert_eq!(changed.take(2), [id(1), id(2)]);
        changed.note(id(1));
        assert_eq!(changed.take(2), [id(3), id(1)], "who was reported goes behind the others");
        assert!(changed.take(2).is_empty());
    }

    #[test]
    fn about_a_minute_is_counted_and_changes_are_reported_once() {
        let mut seen = Seen::default();
        assert!(seen.is_over(0));
        seen.attempt(Health::Good, None, 1_000);
        seen.attempt(Health::Bad, Some("status 500".into()), 31_000);
        let report = seen.report(Uuid::nil(), 0, None, 31_000).unwrap();
        assert_eq!((report.attempts, report.failures), (2, 1));
        assert_eq!(report.last_error.map(|last| (last.error, last.ago_ms)), Some(("status 500".to_owned(), 0)));
        assert_eq!(seen.report(Uuid::nil(), 0, None, 32_000), None);
        assert!(!seen.is_over(32_000));
        let later = seen.report(Uuid::nil(), 0, None, 61_000).unwrap();
        assert_eq!((later.attempts, later.failures), (1, 1), "the first one is forgotten");
        assert_eq!(seen.report(Uuid::nil(), 0, None, 200_000).unwrap().attempts, 0);
        assert!(seen.is_over(200_000));
    }

    #[test]
    fn what_limits_an_endpoint_is_said_until_it_is_over() {
        let mut seen = Seen::default();
        let limited = Some(Limited { by: Why::Slowed, since_ms: 1_000, until_ms: 9_000 });
        for now in [2_000, 4_000] {
            let said = seen.report(Uuid::nil(), 0, limited, now).unwrap().limited.unwrap();
            assert_eq!((said.by, said.since_ms, said.for_ms), ("slowed", now as i64 - 1_000, 9_000 - now as i64));
            assert!(!seen.is_over(now));
        }
        assert_eq!(seen.report(Uuid::nil(), 0, None, 10_000).unwrap().limited, None);
        assert_eq!(seen.report(Uuid::nil(), 0, None, 12_000), None);
        assert!(seen.is_over(12_000));
    }
}
