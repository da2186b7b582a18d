//! Telling a message that kills its workers from those that only lay beside it.
//!
//! When a worker dies, the broker counts one more delivery for everything that it had in hand, so that count accuses the
//! innocent as well. It only raises a suspicion. From then on PostgreSQL keeps how many attempts were begun and never ended,
//! and once there were some, the attempt is made while no other suspect is tried: then a death is its own.

/// A message that was handed out so often may have killed the workers that held it.
pub const SUSPECT_DELIVERY_COUNT: u32 = 3;

/// Attempts that never ended before a suspect is tried alone. One may be chance: the worker died of something else.
const BESIDE_OTHERS: u32 = 2;
/// And so many alone, before nobody dares again.
const ALONE: u32 = 3;

/// How to make an attempt of a suspect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    BesideOthers,
    Alone,
    /// It has killed its workers: no further attempt.
    Never,
}

/// After so many attempts that were begun and never ended.
pub fn trial(unfinished: u32) -> Trial {
    if unfinished < BESIDE_OTHERS {
        Trial::BesideOthers
    } else if unfinished < BESIDE_OTHERS + ALONE {
        Trial::Alone
    } else {
        Trial::Never
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspect_is_tried_beside_others_then_alone_then_never() {
        use Trial::{Alone, BesideOthers, Never};
        let trials: Vec<Trial> = (0..7).map(trial).collect();
        assert_eq!(trials, [BesideOthers, BesideOthers, Alone, Alone, Alone, Never, Never]);
        assert_eq!(trial(u32::MAX), Never);
    }
}
