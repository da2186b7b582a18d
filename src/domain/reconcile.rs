//! What the broker has lost, as opposed to what waits in a long queue.
//!
//! A time-out cannot tell the two apart. A marker can: queues are first in, first out, so whatever was due before a marker
//! was published has left the queue by the time the marker is received. What is then still unfinished, and is not in some
//! worker's hands either, is lost.

use std::time::Duration;

/// Covers the way from commit to broker. A delay queue that expires late has the grace as well: what is settled before a
/// marker is proof is not looked at.
pub const SLACK: Duration = Duration::from_secs(5);

/// A marker that came through its queue. Times in milliseconds of the database's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Marker {
    pub published_ms: i64,
    pub recorded_ms: i64,
}

/// The newest publishing time that a recorded marker proves, once whatever a worker held then must have been settled. The
/// grace counts from the *recording*: counted from the publishing it would protect nothing in a queue longer than itself.
pub fn proof(markers: &[Marker], now_ms: i64, grace: Duration) -> Option<i64> {
    let grace_ms = grace.as_millis() as i64;
    markers.iter().filter(|m| m.recorded_ms + grace_ms <= now_ms).map(|m| m.published_ms).max()
}

/// Whether an unfinished delivery (`pending` or `retrying`) that was due at `due_ms` is lost. A first attempt may be in
/// either work queue, so it takes a marker of each; a marker of the other queue proves nothing.
pub fn is_lost(attempts: i32, due_ms: i64, retry_proof: Option<i64>, deliver_proof: Option<i64>) -> bool {
    let passed = |proof: Option<i64>| proof.is_some_and(|published| due_ms + (SLACK.as_millis() as i64) < published);
    passed(retry_proof) && (attempts > 0 || passed(deliver_proof))
}

/// How long a worker may hold a message unacknowledged: its wait for its turn, its request, and the settlement.
pub fn grace(configured: Duration, longest_timeout: Duration) -> Duration {
    configured + longest_timeout + super::gate::MAX_WAIT
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GRACE: Duration = Duration::from_secs(10);

    #[test]
    fn a_marker_proves_nothing_before_its_grace_has_passed_since_it_was_recorded() {
        let marker = Marker { published_ms: 100_000, recorded_ms: 500_000 };
        assert_eq!(proof(&[marker], 509_999, GRACE), None);
        assert_eq!(proof(&[marker], 510_000, GRACE), Some(100_000));
        let newer = Marker { published_ms: 200_000, recorded_ms: 600_000 };
        assert_eq!(proof(&[marker, newer], 520_000, GRACE), Some(100_000), "the newer one is not proof yet");
        assert_eq!(proof(&[], 520_000, GRACE), None);
    }

    #[test]
    fn first_attempts_need_a_marker_of_both_queues() {
        assert!(is_lost(1, 0, Some(5_001), None));
        assert!(!is_lost(1, 0, Some(5_000), None), "the slack");
        assert!(!is_lost(0, 0, Some(5_001), None) && !is_lost(0, 0, None, Some(5_001)));
        assert!(is_lost(0, 0, Some(5_001), Some(5_001)));
        assert!(!is_lost(1, 0, None, Some(5_001)));
    }

    #[test]
    fn the_grace_covers_waiting_for_a_slot_and_the_request_itself() {
        assert_eq!(grace(Duration::from_secs(5), Duration::from_secs(15)), Duration::from_secs(22));
    }

    proptest! {
        /// A backlog is never mistaken for a loss: what became due after the marker was published is not lost.
        #[test]
        fn what_was_due_after_the_marker_is_never_lost(due in 0i64..1_000_000, behind in 0i64..1_000_000, attempts in 0i32..5) {
            let published = due - behind;
            prop_assert!(!is_lost(attempts, due, Some(published), Some(published)));
        }

        /// A delay queue that expires late, and a worker after it, have the slack and the grace: what is settled until then
        /// was never lost, however soon each marker came through.
        #[test]
        fn what_expires_late_has_the_slack_and_the_grace(due in 50_000i64..1_000_000, late in 0i64..=15_000, every in 1i64..5_000) {
            let now = due + late;
            let published = (due - 50_000..=now).step_by(every as usize);
            let markers: Vec<Marker> =
                published.map(|at| Marker { published_ms: at, recorded_ms: at }).collect();
            let proof = proof(&markers, now, GRACE);
            prop_assert!(proof.is_some() && !is_lost(1, due, proof, None));
        }
    }
}
