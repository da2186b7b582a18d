//! How fast held deliveries of one endpoint come back: no faster than it takes them.
//!
//! The relay keeps one pace for each endpoint that has held deliveries. It lets a few go, looks what became of them, and
//! speeds up while they are delivered or slows down while they fail or are held again. What is on its way is bounded, so
//! an endpoint that takes nothing gets nothing more, and its backlog never wanders round and round through the broker.
//! A failure slows down only what is released after an outage: before that, retries come at the times of their schedule.

/// Deliveries per second that a recovering endpoint begins with.
const START: f64 = 10.0;
const SLOWEST: f64 = 1.0;
const FASTER: f64 = 1.3;
const SLOWER: f64 = 0.5;
/// So many seconds' worth of the pace may be on its way and without an outcome.
///
/// They wait in the same queue as the retries of all others, so this is how long they keep those waiting.
const WINDOW_SECONDS: f64 = 0.6;
const WINDOW_LEAST: f64 = 8.0;
/// A pause of the relay is not made up for beyond this much of the pace.
const BURST_SECONDS: f64 = 0.4;
const CATCH_UP_MS: u64 = 1_000;

/// What may be let go now, and from where on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Mode {
    /// A few to find out whether the endpoint is back.
    Probe(u32),
    /// It has just come back: begin slowly.
    Ramp,
    /// Nothing is known to be wrong with it.
    Full,
}

#[derive(Debug, Clone)]
pub struct Pace {
    rate: f64,
    credit: f64,
    last_ms: u64,
}

/// What became of deliveries that were let go.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Delivered, or refused for good.
    pub taken: u32,
    /// The attempt was made and failed.
    pub failed: u32,
    /// Held again without an attempt, or gone.
    pub back: u32,
}

impl Pace {
    pub fn new(mode: Mode, ceiling: f64, now_ms: u64) -> Pace {
        let rate = if mode == Mode::Full { ceiling } else { START.min(ceiling) };
        Pace { rate, credit: 1.0, last_ms: now_ms }
    }

    pub fn learn(&mut self, mode: Mode, outcomes: Outcomes, ceiling: f64) {
        let Outcomes { taken, failed, back } = outcomes;
        let other = if mode == Mode::Full { back } else { failed + back };
        if taken + other == 0 {
            return;
        }
        let factor = if other > taken { SLOWER } else { FASTER };
        self.rate = (self.rate * factor).min(ceiling).max(SLOWEST);
    }

    /// How many may be let go now, with so many on their way.
    pub fn take(&mut self, mode: Mode, on_the_way: u32, now_ms: u64) -> u32 {
        let passed = now_ms.saturating_sub(self.last_ms).min(CATCH_UP_MS);
        self.last_ms = now_ms;
        self.credit = (self.credit + self.rate * passed as f64 / 1000.0).min((self.rate * BURST_SECONDS).max(1.0));
        let window = match mode {
            Mode::Probe(most) => f64::from(most),
            Mode::Ramp | Mode::Full => (self.rate * WINDOW_SECONDS).max(WINDOW_LEAST),
        };
        let room = (window - f64::from(on_the_way)).max(0.0);
        let taken = self.credit.min(room).floor();
        self.credit -= taken;
        taken as u32
    }

    pub fn rate(&self) -> f64 {
        self.rate
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Lets deliveries go for some seconds; the endpoint takes `capacity` of them in a second. Returns what was taken.
    fn drive(pace: &mut Pace, mode: Mode, capacity: f64, seconds: u64, from_ms: u64) -> (u32, f64) {
        let (mut on_the_way, mut done, mut able) = (0u32, 0u32, 0.0f64);
        for tick in 1..=seconds * 5 {
            let now = from_ms + tick * 200;
            able = (able + capacity / 5.0).min(capacity.max(1.0));
            let delivered = (able.floor() as u32).min(on_the_way);
            able -= f64::from(delivered);
            on_the_way -= delivered;
            done += delivered;
            pace.learn(mode, Outcomes { taken: delivered, ..Outcomes::default() }, 500.0);
            on_the_way += pace.take(mode, on_the_way, now);
        }
        (done, pace.rate())
    }

    #[test]
    fn a_recovering_endpoint_is_ramped_up_to_the_ceiling() {
        let mut pace = Pace::new(Mode::Ramp, 500.0, 0);
        assert!(pace.take(Mode::Ramp, 0, 200) <= 3, "slowly at first");
        let (done, rate) = drive(&mut pace, Mode::Ramp, 10_000.0, 60, 200);
        assert_eq!(rate, 500.0);
        assert!(done > 20_000, "{done}");
    }

    #[test]
    fn an_endpoint_that_takes_nothing_gets_no_more_than_a_window() {
        let mut pace = Pace::new(Mode::Ramp, 500.0, 0);
        let mut on_the_way = 0;
        for tick in 1..10_000 {
            on_the_way += pace.take(Mode::Ramp, on_the_way, tick * 200);
        }
        assert!(on_the_way <= 20, "{on_the_way}");
    }

    #[test]
    fn failures_slow_a_recovering_endpoint_and_holds_slow_every_one() {
        let rate_after = |mode, outcomes| {
            let mut pace = Pace::new(Mode::Full, 500.0, 0);
            pace.learn(mode, outcomes, 500.0);
            pace.rate()
        };
        let failed = Outcomes { taken: 1, failed: 5, back: 0 };
        let back = Outcomes { taken: 1, failed: 0, back: 5 };
        assert_eq!((rate_after(Mode::Full, failed), rate_after(Mode::Ramp, failed)), (500.0, 250.0));
        assert_eq!((rate_after(Mode::Full, back), rate_after(Mode::Ramp, back)), (250.0, 250.0));
    }

    #[test]
    fn probes_are_few() {
        let mut pace = Pace::new(Mode::Probe(3), 500.0, 0);
        let taken: u32 =
            (1..50).map(|tick| tick * 200).fold(0, |taken, now| taken + pace.take(Mode::Probe(3), taken, now));
        assert_eq!(taken, 3);
    }

    proptest! {
        /// Over any time, no more than the ceiling and one second's worth of catching up.
        #[test]
        fn never_above_the_ceiling(ceiling in 1.0f64..2000.0, pauses in prop::collection::vec(0u64..3_000, 1..200)) {
            let mut pace = Pace::new(Mode::Full, ceiling, 0);
            let (mut now, mut taken) = (0u64, 0.0);
            for pause in pauses {
                now += pause;
                taken += f64::from(pace.take(Mode::Full, 0, now));
                pace.learn(Mode::Full, Outcomes { taken: 5, ..Outcomes::default() }, ceiling);
                prop_assert!(taken <= ceiling * (now as f64 / 1000.0) + ceiling + 1.0);
            }
        }

        /// It never stops for ever: with nothing on its way something is let go within a few seconds.
        #[test]
        fn never_stuck(full in any::<bool>(), failed in 0u32..9, bad in 0u32..200) {
            let mode = if full { Mode::Full } else { Mode::Ramp };
            let mut pace = Pace::new(mode, 500.0, 0);
            (0..bad).for_each(|_| pace.learn(mode, Outcomes { taken: 0, failed, back: 9 - failed }, 500.0));
            let let_go: u32 = (1..=10).map(|tick| pace.take(mode, 0, tick * 200)).sum();
            prop_assert!(let_go >= 1);
        }
    }
}
