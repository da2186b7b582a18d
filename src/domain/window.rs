//! How many held deliveries of one endpoint are let go at a time: as many as it takes.
//!
//! What is let go and has no outcome yet is on the way, and never more than the window. The window grows by one with each
//! delivery that is taken, so it doubles while all are, and halves while more come back than are taken. An endpoint that
//! takes nothing gets nothing more, and its backlog never wanders round and round through the broker.

/// Of an endpoint that nothing is known of. Also the least while its circuit has stayed closed: its retries come at the
/// times of their schedule, and a failure is no reason to keep the next one waiting.
const START: u32 = 8;
pub const LEAST: u32 = 1;
pub const MOST: u32 = 1_024;
/// Held deliveries with times of their own come back at these times; the rate only evens out what bunches up.
const ABOVE_LIMIT: f64 = 1.2;
/// A pause of the relay is not made up for beyond this much of the rate.
const BURST_SECONDS: f64 = 0.4;
const CATCH_UP_MS: u64 = 1_000;

/// What is known of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// A few to find out whether it is back.
    Probe(u32),
    /// It has just come back: failures count as deliveries that came back.
    Ramp,
    /// Nothing is known to be wrong with it.
    Full,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    size: u32,
    /// Taken in a tick, lately.
    taken: u32,
}

impl Default for Window {
    fn default() -> Window {
        Window { size: START, taken: 0 }
    }
}

impl Window {
    pub fn learn(&mut self, mode: Mode, outcomes: Outcomes) {
        let Outcomes { taken, failed, back } = outcomes;
        self.taken = taken.max(self.taken / 2);
        let (back, least) = if mode == Mode::Full { (back, START) } else { (back + failed, LEAST) };
        let only_failures = taken + back == 0 && failed > 0;
        if back > taken {
            self.size = (self.size / 2).max(LEAST);
        } else if only_failures {
            self.size = (self.size / 2).max(least.min(self.size));
        } else {
            self.size = self.size.saturating_add(taken).min(MOST);
        }
    }

    /// How many more may be let go, with so many on their way. Beside what may be in flight no more than it takes in two
    /// ticks: what would only wait in the workers would wait in the places of others.
    pub fn room(&self, mode: Mode, on_the_way: u32, max_in_flight: u32) -> u32 {
        let window = match mode {
            Mode::Probe(most) => most,
            Mode::Ramp | Mode::Full => self.size.min(max_in_flight.saturating_add(2 * self.taken)),
        };
        window.saturating_sub(on_the_way)
    }

    /// In a tick it takes what may be in flight at least once, and all that is on its way: more of it would wait for nobody else.
    pub fn keeps_up(&self, on_the_way: u32, max_in_flight: u32) -> bool {
        self.taken >= max_in_flight.max(on_the_way)
    }

    pub fn size(&self) -> u32 {
        self.size
    }
}

/// Of an endpoint with a rate limit: beside the window, what is let go keeps its distance in time.
#[derive(Debug, Clone, Copy)]
pub struct TokenBucket {
    tokens: f64,
    last_ms: u64,
}

impl TokenBucket {
    pub fn new(now_ms: u64) -> TokenBucket {
        TokenBucket { tokens: 1.0, last_ms: now_ms }
    }

    /// How many may be let go now.
    pub fn room(&mut self, limit_per_second: f64, now_ms: u64) -> u32 {
        let rate = limit_per_second * ABOVE_LIMIT;
        let passed = now_ms.saturating_sub(self.last_ms).min(CATCH_UP_MS);
        self.last_ms = now_ms;
        self.tokens = (self.tokens + rate * passed as f64 / 1000.0).min((rate * BURST_SECONDS).max(1.0));
        self.tokens.floor() as u32
    }

    pub fn let_go(&mut self, count: u32) {
        self.tokens = (self.tokens - f64::from(count)).max(0.0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn after(mode: Mode, outcomes: Outcomes) -> u32 {
        let mut window = Window { size: 64, taken: 0 };
        window.learn(mode, outcomes);
        window.size()
    }

    #[test]
    fn it_grows_by_what_is_taken_and_halves_when_more_comes_back() {
        assert_eq!(after(Mode::Full, Outcomes { taken: 5, failed: 0, back: 5 }), 69);
        assert_eq!(after(Mode::Full, Outcomes { taken: 5, failed: 0, back: 6 }), 32);
        assert_eq!(after(Mode::Full, Outcomes::default()), 64, "nothing was heard");
    }

    #[test]
    fn failures_among_deliveries_count_after_an_outage_only() {
        let failed = Outcomes { taken: 1, failed: 5, back: 0 };
        assert_eq!((after(Mode::Full, failed), after(Mode::Ramp, failed)), (65, 32));
    }

    #[test]
    fn failures_alone_halve_it_and_leave_a_healthy_endpoints_retries_their_beginning() {
        let failed = Outcomes { taken: 0, failed: 5, back: 0 };
        let left = |mode| {
            let mut window = Window { size: 64, taken: 0 };
            (0..20).for_each(|_| window.learn(mode, failed));
            window.size()
        };
        assert_eq!(after(Mode::Full, failed), 32);
        assert_eq!((left(Mode::Full), left(Mode::Ramp)), (START, LEAST));
        let mut small = Window { size: 2, taken: 0 };
        small.learn(Mode::Full, failed);
        assert_eq!(small.size(), 2, "a failure never makes it larger");
    }

    #[test]
    fn an_endpoint_that_takes_everything_has_the_whole_window_within_a_second() {
        let mut window = Window { size: LEAST, taken: 0 };
        let ticks = (0..).take_while(|_| {
            let taken = window.size();
            window.learn(Mode::Ramp, Outcomes { taken, ..Outcomes::default() });
            taken < MOST
        });
        assert!(ticks.count() <= 10);
    }

    #[test]
    fn probes_are_few() {
        let window = Window::default();
        assert_eq!((0..=4).map(|on| window.room(Mode::Probe(3), on, 32)).collect::<Vec<_>>(), [3, 2, 1, 0, 0]);
    }

    fn outcomes() -> impl Strategy<Value = Outcomes> {
        (0u32..2_000, 0u32..2_000, 0u32..2_000).prop_map(|(taken, failed, back)| Outcomes { taken, failed, back })
    }

    fn mode() -> impl Strategy<Value = Mode> {
        prop_oneof![Just(Mode::Probe(3)), Just(Mode::Ramp), Just(Mode::Full)]
    }

    proptest! {
        #[test]
        fn it_stays_within_its_bounds(all in prop::collection::vec((mode(), outcomes()), 0..100)) {
            let mut window = Window::default();
            for (mode, outcomes) in all {
                window.learn(mode, outcomes);
                prop_assert!((LEAST..=MOST).contains(&window.size()));
                prop_assert!(window.room(mode, 0, 1) >= 1, "it never stops for ever");
            }
        }

        /// Over any time, no more than the limit and a little, and one second's worth of catching up.
        #[test]
        fn the_pace_is_never_above_the_limit(limit in 0.1f64..2000.0, pauses in prop::collection::vec(0u64..3_000, 1..200)) {
            let mut bucket = TokenBucket::new(0);
            let (mut now, mut gone) = (0u64, 0.0);
            for pause in pauses {
                now += pause;
                let room = bucket.room(limit, now);
                bucket.let_go(room);
                gone += f64::from(room);
                let most = limit * ABOVE_LIMIT;
                prop_assert!(gone <= most * (now as f64 / 1000.0) + most + 1.0);
            }
        }

        #[test]
        fn the_pace_never_stops_for_ever(limit in 0.1f64..2000.0) {
            let mut bucket = TokenBucket::new(0);
            bucket.let_go(u32::MAX);
            let gone: u32 = (1..=12).map(|second| bucket.room(limit, second * 1_000)).max().unwrap_or(0);
            prop_assert!(gone >= 1);
        }
    }
}
