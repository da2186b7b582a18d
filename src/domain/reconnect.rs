//! How long to wait before reconnecting to a server of ours: 0.25 s doubling to 2 s, jittered so that replicas spread.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(250);
/// A few processes that ask every second or two cost a server nothing, and whoever waits longer is late when it is back.
const LONGEST: Duration = Duration::from_secs(2);

/// `failures` counts from 0; `random` is uniform in 0..1.
pub fn pause(failures: u32, random: f64) -> Duration {
    let ceiling = FIRST.saturating_mul(1 << failures.min(10)).min(LONGEST);
    ceiling.mul_f64(0.5 + 0.5 * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_are_jittered_and_stay_within_two_seconds() {
        assert_eq!(pause(0, 1.0), FIRST);
        assert_eq!(pause(0, 0.0), FIRST / 2);
        assert_eq!(pause(2, 1.0), Duration::from_secs(1));
        assert_eq!(pause(u32::MAX, 1.0), LONGEST);
    }
}
