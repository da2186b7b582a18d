//! The two clocks of a rate: when the next request may begin, and which times are promised to held deliveries; and what
//! an endpoint gets after it has asked to slow down.

use std::time::Duration;

/// So much of a second's requests may begin at once: the stated burst of every rate limit, beside the first request.
pub const BURST_SECONDS: f64 = 0.02;
/// Times are promised this far ahead; whoever would come later asks again then.
const HORIZON_MS: f64 = 3_600_000.0;
/// The least time in PostgreSQL that is worth the two statements.
const SHORTEST_HOLD_MS: f64 = 1_000.0;

/// The generic cell rate algorithm: each request moves the clock on by one interval. Milliseconds with fractions, since an
/// interval may be shorter than one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Spacing {
    /// When the next request is due, if requests had come evenly.
    next_ms: f64,
    /// The last time promised to a held delivery, and one interval more.
    promised_ms: f64,
}

impl Spacing {
    /// Takes the next moment, if it comes within `patience_ms`, and says how far away it is.
    pub fn take(&mut self, rate: Option<f64>, now_ms: u64, patience_ms: u64) -> Option<u64> {
        let Some(rate) = rate else { return Some(0) };
        let pause = self.pause(rate, now_ms);
        if pause > patience_ms as f64 {
            return None;
        }
        self.next_ms = self.next_ms.max(now_ms as f64) + interval(rate);
        Some(pause.ceil() as u64)
    }

    /// How long the one in this place (1 is next) will have to wait.
    pub fn wait_ms(&self, rate: f64, now_ms: u64, place: usize) -> u64 {
        (self.pause(rate, now_ms) + interval(rate) * place.saturating_sub(1) as f64).ceil() as u64
    }

    /// Promises a held delivery its own time: after all that were promised before it, and not before `expected_ms`.
    pub fn reserve(&mut self, rate: f64, now_ms: u64, expected_ms: u64) -> u64 {
        let earliest = now_ms as f64 + SHORTEST_HOLD_MS.max(expected_ms as f64);
        // A new row of promises begins behind what waits in the worker.
        let at = if self.promised_ms > now_ms as f64 { self.promised_ms } else { earliest };
        let at = at.clamp(now_ms as f64 + SHORTEST_HOLD_MS, now_ms as f64 + HORIZON_MS);
        self.promised_ms = at + interval(rate);
        (at - now_ms as f64).ceil() as u64
    }

    /// Takes back all promises: those who had them come at once.
    pub fn forget_promises(&mut self) {
        self.promised_ms = 0.0;
    }

    /// How far ahead times are promised.
    pub fn reserved_ms(&self, now_ms: u64) -> u64 {
        (self.promised_ms - now_ms as f64).max(0.0) as u64
    }

    fn pause(&self, rate: f64, now_ms: u64) -> f64 {
        (self.next_ms - now_ms as f64 - burst_ms(rate)).max(0.0)
    }
}

fn interval(rate: f64) -> f64 {
    1000.0 / rate.max(0.001)
}

/// Below 50 requests in a second there is no burst: two at once would be above the limit.
fn burst_ms(rate: f64) -> f64 {
    if rate * BURST_SECONDS < 1.0 { 0.0 } else { BURST_SECONDS * 1000.0 }
}

/// A wish to slow down without a time.
const UNASKED: Duration = Duration::from_secs(1);
const SLOWEST: f64 = 1.0;
/// What is left of the rate after a wish to slow down.
const CUT: f64 = 0.5;
/// What the rate grows to in a second.
const GROWTH: f64 = 1.1;
/// Once it has grown to so many times what it was, the restraint is over.
const FORGIVEN: f64 = 2.0;

/// A pause of this length is worth telling all workers of; a shorter one is over before anybody could lift it.
const SHARED: Duration = Duration::from_secs(5);
/// The answers of one overload come within this time.
const ONE_OVERLOAD_MS: u64 = 1_000;

/// Restraint after 429, or 503 with `Retry-After`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Throttle {
    restraint: Option<Restraint>,
    /// The end of the pause that all workers were told of.
    told_ms: u64,
    this_second: (u64, u32),
    last_second: u32,
}

#[derive(Debug, Clone, Copy)]
struct Restraint {
    /// The first wish, and the last one.
    began_ms: u64,
    since_ms: u64,
    until_ms: u64,
    /// Requests in a second right after the pause, and the rate at which it ends.
    rate: f64,
    enough: f64,
}

impl Throttle {
    /// Counts a request, to know what half of them would be.
    pub fn sent(&mut self, now_ms: u64) {
        let second = now_ms / 1000;
        if self.this_second.0 != second {
            self.last_second = if self.this_second.0 + 1 == second { self.this_second.1 } else { 0 };
            self.this_second = (second, 0);
        }
        self.this_second.1 += 1;
    }

    /// Requests that began before the last wish do not count again: they are one and the same overload. Returns the length of
    /// a pause that all workers should know of, if this wish makes one, or makes it longer.
    pub fn slow_down(&mut self, started_ms: u64, asked: Option<Duration>, now_ms: u64) -> Option<Duration> {
        let pause = asked.unwrap_or(UNASKED);
        let until_ms = now_ms + pause.as_millis() as u64;
        let restraint = match self.restraint.filter(|_| !self.is_over(now_ms)) {
            Some(before) if started_ms < before.since_ms => {
                Restraint { until_ms: before.until_ms.max(until_ms), ..before }
            }
            Some(before) => {
                let rate = (before.rate_at(now_ms) * CUT).max(SLOWEST);
                Restraint { since_ms: now_ms, until_ms, rate, ..before }
            }
            None => {
                let seen = f64::from(self.this_second.1.max(self.last_second)).max(SLOWEST);
                let (rate, enough) = ((seen * CUT).max(SLOWEST), seen * FORGIVEN);
                Restraint { began_ms: now_ms, since_ms: now_ms, until_ms, rate, enough }
            }
        };
        self.restraint = Some(restraint);
        let tell = pause >= SHARED && until_ms > self.told_ms + ONE_OVERLOAD_MS;
        self.told_ms = if tell { until_ms } else { self.told_ms };
        tell.then_some(pause)
    }

    /// An operator says that the endpoint is to be sent to as before.
    pub fn lift(&mut self) {
        (self.restraint, self.told_ms) = (None, 0);
    }

    /// Since when there is restraint, and when it will be over.
    pub fn span_ms(&self, now_ms: u64) -> Option<(u64, u64)> {
        let restraint = self.restraint.filter(|_| !self.is_over(now_ms))?;
        let seconds = (restraint.enough / restraint.rate).max(1.0).log(GROWTH);
        Some((restraint.began_ms, restraint.until_ms + (seconds * 1000.0).ceil() as u64))
    }

    /// The lower of the endpoint's limit and the restraint.
    pub fn limit(&self, rate: Option<f64>, now_ms: u64) -> Option<f64> {
        let restrained = self.restraint.filter(|_| !self.is_over(now_ms)).map(|restraint| restraint.rate_at(now_ms));
        match (rate, restrained) {
            (Some(rate), Some(restrained)) => Some(rate.min(restrained)),
            (rate, restrained) => rate.or(restrained),
        }
    }

    /// How long nothing may be sent at all.
    pub fn pause_ms(&self, now_ms: u64) -> u64 {
        self.restraint.map_or(0, |restraint| restraint.until_ms.saturating_sub(now_ms))
    }

    pub fn is_over(&self, now_ms: u64) -> bool {
        self.restraint.is_none_or(|r| now_ms >= r.until_ms && r.rate_at(now_ms) >= r.enough)
    }
}

impl Restraint {
    fn rate_at(&self, now_ms: u64) -> f64 {
        let seconds = now_ms.saturating_sub(self.until_ms) as f64 / 1000.0;
        (self.rate * GROWTH.powf(seconds)).min(self.enough)
    }
}

#[cfg(test)]
#[path = "throttle_tests.rs"]
mod tests;
