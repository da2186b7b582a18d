//! Telling a message that kills its workers from those that only lay beside it.
//!
//! When a worker dies, the broker counts one more delivery for everything that it had in hand, so that count accuses the
//! innocent as well. It only raises a suspicion. From then on PostgreSQL keeps how many attempts were begun and never ended,
//! and once there were some, the attempt is made while no other suspect is tried: then a death is its own.
//!
//! Unless workers die young anyway, of something else: a bad release, no memory, a node that is drained. So a suspect is
//! tried alone only by a worker that has shown that it can live.

use std::time::Duration;

/// A message that was handed out so often may have killed the workers that held it.
pub const SUSPECT_DELIVERY_COUNT: u32 = 3;

/// Attempts that never ended before a suspect is tried alone. One may be chance: the worker died of something else.
const BESIDE_OTHERS: u32 = 2;
/// And so many alone, before nobody dares again.
const ALONE: u32 = 3;
/// How long a worker has lived before it tries a suspect alone. Its death sooner than that says nothing about the message.
const SETTLED: Duration = Duration::from_secs(10);

/// How to make an attempt of a suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    BesideOthers,
    Alone,
    /// Not by this worker before this time has passed.
    NotYet(Duration),
    /// It has killed its workers: no further attempt.
    Never,
}

/// After so many attempts that were begun and never ended, by a worker that has lived for so long.
pub fn trial(unfinished: u32, lived: Duration) -> Trial {
    if is_proven(unfinished) {
        Trial::Never
    } else if unfinished < BESIDE_OTHERS {
        Trial::BesideOthers
    } else if lived < SETTLED {
        Trial::NotYet(SETTLED - lived)
    } else {
        Trial::Alone
    }
}

/// It has killed its workers, or they panicked at it, again and again.
pub fn is_proven(unfinished: u32) -> bool {
    unfinished >= BESIDE_OTHERS + ALONE
}

/// How long a suspect is held that is not tried now, of a `pause` that all of them have; `chance` is evenly spread over 0 to 1.
/// Those that were suspected together must not come back together, since only one of them is tried at a time.
pub fn spread_ms(pause_ms: u64, chance: f64) -> u64 {
    (pause_ms as f64 * (0.2 + 0.8 * chance)) as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_suspect_is_tried_beside_others_then_alone_then_never() {
        use Trial::{Alone, BesideOthers, Never};
        let trials: Vec<Trial> = (0..7).map(|unfinished| trial(unfinished, SETTLED)).collect();
        assert_eq!(trials, [BesideOthers, BesideOthers, Alone, Alone, Alone, Never, Never]);
        assert_eq!(trial(u32::MAX, Duration::ZERO), Trial::Never);
    }

    proptest! {
        #[test]
        fn what_is_held_comes_back_within_the_pause(pause in 0u64..1_000_000, chance in 0.0..1.0) {
            let held = spread_ms(pause, chance);
            prop_assert!(held <= pause && held + 1 >= pause / 5);
        }

        /// However many workers die, and of whatever: as long as none of them lives, nothing is proven against a message.
        #[test]
        fn deaths_of_young_workers_prove_nothing(lives in proptest::collection::vec(0..SETTLED.as_millis() as u64, 0..100)) {
            let mut unfinished = 0;
            for lived in lives.into_iter().map(Duration::from_millis) {
                match trial(unfinished, lived) {
                    Trial::BesideOthers | Trial::Alone => unfinished += 1,
                    Trial::NotYet(rest) => prop_assert_eq!(lived + rest, SETTLED),
                    Trial::Never => prop_assert!(false, "it is condemned"),
                }
            }
        }
    }
}
