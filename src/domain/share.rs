//! A share of all events, the same ones for everybody who asks: whatever is kept of an event for a sample is kept as a whole,
//! in every process and at every attempt.

use uuid::Uuid;

/// The last 56 bits of an id are random, which is what W3C's Trace Context asks of a trace id too.
const BITS: u32 = 56;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Ids from here on, by their random bits, are in it.
    threshold: u64,
}

impl Share {
    pub const NOTHING: Share = Share { threshold: 1 << BITS };

    /// `ratio`: 0 to 1.
    pub fn new(ratio: f64) -> Share {
        let all = (1_u64 << BITS) as f64;
        Share { threshold: ((1.0 - ratio.clamp(0.0, 1.0)) * all) as u64 }
    }

    pub fn has(self, id: Uuid) -> bool {
        (id.as_u128() as u64 & ((1 << BITS) - 1)) >= self.threshold
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids() -> impl Iterator<Item = Uuid> {
        (0..4_000_u32).map(|n| {
            let mut random = [0; 10];
            random[3..].copy_from_slice(&(u64::from(n) * ((1 << BITS) / 4_000)).to_be_bytes()[1..]);
            super::super::ids::new_v7(1_700_000_000_000, random)
        })
    }

    #[test]
    fn a_share_of_events_is_kept_and_a_larger_one_holds_the_smaller() {
        let kept = |ratio| ids().filter(|id| Share::new(ratio).has(*id)).count();
        assert_eq!((kept(0.0), kept(1.0)), (0, 4_000));
        assert!((990..=1_010).contains(&kept(0.25)), "{}", kept(0.25));
        assert!(ids().all(|id| !Share::new(0.1).has(id) || Share::new(0.2).has(id)));
        assert_eq!(Share::NOTHING, Share::new(0.0));
    }
}
