//! The rate of a command that sends again, and the size of a batch that it allows.

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use crate::domain::throttle::Spacing;

/// Deliveries granted with one statement.
const BATCH: u32 = 500;
/// A twentieth of a second's worth at a time: a whole second's at once would be a wave that live traffic feels.
const BATCHES_PER_SECOND: u32 = 20;

pub(super) struct Rate {
    pub(super) batch: u32,
    batches_per_second: Option<f64>,
    spacing: Spacing,
    began: Instant,
}

impl Rate {
    /// `rate`: deliveries per second.
    pub(super) fn new(rate: Option<NonZeroU32>) -> Rate {
        let batch = rate.map_or(BATCH, |rate| (rate.get() / BATCHES_PER_SECOND).clamp(1, BATCH));
        let batches_per_second = rate.map(|rate| f64::from(rate.get()) / f64::from(batch));
        Rate { batch, batches_per_second, spacing: Spacing::default(), began: Instant::now() }
    }

    /// Waits for the next batch's turn.
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.pause(self.began.elapsed())).await;
    }

    fn pause(&mut self, since_the_beginning: Duration) -> Duration {
        let now_ms = since_the_beginning.as_millis() as u64;
        let pause_ms = self.spacing.take(self.batches_per_second, now_ms, u64::MAX);
        Duration::from_millis(pause_ms.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a run has sent after ten seconds, that takes each batch as soon as it may and needs no time for it.
    fn in_ten_seconds(per_second: u32) -> u32 {
        let mut rate = Rate::new(NonZeroU32::new(per_second));
        let (mut now, mut sent) = (Duration::ZERO, 0);
        loop {
            now += rate.pause(now);
            if now >= Duration::from_secs(10) {
                return sent;
            }
            sent += rate.batch;
        }
    }

    #[test]
    fn any_rate_is_kept_in_batches_of_a_twentieth_of_a_second() {
        for per_second in [1, 7, 50, 1_000, 9_999, 40_000] {
            let (sent, due) = (in_ten_seconds(per_second), 10 * per_second);
            let batch = Rate::new(NonZeroU32::new(per_second)).batch;
            assert!(sent.abs_diff(due) <= due / 50 + batch, "{sent} of {due}");
        }
        assert_eq!([1, 1_000, 40_000].map(|rate| Rate::new(NonZeroU32::new(rate)).batch), [1, 50, 500]);
    }

    #[test]
    fn without_a_rate_nothing_waits() {
        let mut rate = Rate::new(None);
        assert_eq!(
            (rate.batch, rate.pause(Duration::ZERO), rate.pause(Duration::ZERO)),
            (500, Duration::ZERO, Duration::ZERO)
        );
    }
}
