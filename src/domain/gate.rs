//! One endpoint's gate: may this delivery be sent now, wait a little in the worker, or go back to PostgreSQL?
//!
//! The caller keeps one gate for each endpoint and passes the clock, as milliseconds since any fixed moment. An endpoint
//! may have `max_in_flight` requests open at once and begin `rate` requests in a second. What comes on top waits in the
//! worker as long as the wait is short; what would wait longer is held, due at once: PostgreSQL can sort, a queue cannot.
//! Above a rate, each held delivery is given a time of its own: it comes back once.
//!
//! How long an endpoint takes is measured from the moment in which its request began, not from when it asked. It also
//! decides in which room of the worker its requests are made (`rooms`).
//!
//! An endpoint that asks to slow down (429, or 503 with `Retry-After`) is left alone for the time that it asks for, and
//! then gets half of what it got before, growing by a tenth each second.

use std::collections::BTreeMap;
use std::time::Duration;

use super::rooms::{Room, SLOW_MS};
use super::throttle::{Spacing, Throttle};

/// The longest that a delivery waits in a worker before its request begins.
pub const MAX_WAIT: Duration = Duration::from_secs(2);
/// How long a delivery stays in PostgreSQL that came at its time and found no place in its endpoint's rate.
const LATER_MS: std::ops::RangeInclusive<u64> = 1_000..=30_000;
/// Weight of the newest answer in the running mean where it was slower than usual, and where it was faster: an endpoint
/// that has recovered is prompt again after a few answers.
const SLOWER: f64 = 1.0 / 8.0;
const FASTER: f64 = 1.0 / 2.0;
/// The first requests open connections. What follows them is not expected to take as long: until requests have ended this
/// many times as often as may be in flight, only the age of the oldest one makes others wait elsewhere.
const ROUNDS_UNTIL_RELIED_ON: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Requests open at once, from this worker.
    pub max_in_flight: usize,
    /// Requests begun in a second, from this worker; `None` is as many as it takes.
    pub rate: Option<f64>,
}

/// Where a delivery comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// Its first time here. Where others were held for the rate, it queues up behind them.
    New,
    /// It has waited its turn already: a retry, or held before.
    Due,
}

impl Arrival {
    /// The longest wait that is expected to be worth a place in the worker.
    fn worth_ms(self) -> u64 {
        match self {
            Arrival::New => 500,
            Arrival::Due => 2_000,
        }
    }

    /// The longest that it waits all the same.
    pub fn patience(self) -> Duration {
        match self {
            Arrival::New => Duration::from_secs(1),
            Arrival::Due => MAX_WAIT,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Make the request after this pause; `finished` must be called with the ticket, whatever comes of it.
    Send { ticket: Ticket, pause_ms: u64 },
    /// Wait in the worker and ask again when a request has finished or the wait has grown too long.
    Wait,
    /// Back to PostgreSQL.
    Hold { until: Until, why: Why },
}

/// When a held delivery may be released.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// At once: nobody knows when the endpoint will have room. It queues up behind all that are due already.
    Now,
    /// At once, and before all younger ones: it was released before, and its turn has come.
    OwnTime,
    /// In so many milliseconds.
    In(u64),
}

/// What a delivery is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    InFlight,
    Rate,
    /// The endpoint asked to slow down.
    Slowed,
}

impl Why {
    /// As a pause of the endpoint is named.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::InFlight => "behind",
            Why::Rate => "rate_limit",
            Why::Slowed => "slowed",
        }
    }
}

/// What makes deliveries of an endpoint wait beyond its requests in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limited {
    pub by: Why,
    pub since_ms: u64,
    pub until_ms: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

#[derive(Debug, Default)]
pub struct Gate {
    /// When each request began; `None` while it waits for a seat in the worker.
    in_flight: BTreeMap<Ticket, Option<u64>>,
    waiting: usize,
    next_ticket: u64,
    /// Of the time from the beginning of a request to its end.
    mean_ms: f64,
    /// Requests that have ended.
    ended: usize,
    spacing: Spacing,
    /// Since when times have been promised without a gap.
    promising_ms: u64,
    throttle: Throttle,
}

impl Gate {
    /// Asks for one delivery. After `Wait` the caller is counted as waiting until `stop_waiting`.
    pub fn ask(&mut self, limits: Limits, arrival: Arrival, now_ms: u64) -> Answer {
        // Whoever waits already goes first.
        if self.waiting == 0
            && let Some(send) = self.send(limits, arrival, now_ms)
        {
            return send;
        }
        self.wait_or_hold(limits, arrival, now_ms, 0)
    }

    /// Asks again for a delivery that waits. It stays counted as waiting only if the answer is `Wait` again.
    pub fn ask_again(&mut self, limits: Limits, arrival: Arrival, now_ms: u64, waited_ms: u64) -> Answer {
        self.stop_waiting();
        if let Some(send) = self.send(limits, arrival, now_ms) {
            return send;
        }
        self.wait_or_hold(limits, arrival, now_ms, waited_ms)
    }

    fn wait_or_hold(&mut self, limits: Limits, arrival: Arrival, now_ms: u64, waited_ms: u64) -> Answer {
        let (expected_ms, why) = self.expected_wait(limits, arrival, now_ms, self.waiting + 1);
        if expected_ms > arrival.worth_ms() || waited_ms >= arrival.patience().as_millis() as u64 {
            return self.hold(limits, arrival, now_ms, expected_ms, why);
        }
        self.waiting += 1;
        Answer::Wait
    }

    /// A request may begin when there is room, its moment is near, and nobody who was held before has that moment.
    fn send(&mut self, limits: Limits, arrival: Arrival, now_ms: u64) -> Option<Answer> {
        if self.in_flight.len() >= limits.max_in_flight.max(1) || self.throttle.pause_ms(now_ms) > 0 {
            return None;
        }
        let rate = self.throttle.limit(limits.rate, now_ms);
        if rate.is_some() && arrival == Arrival::New && self.spacing.reserved_ms(now_ms) > arrival.worth_ms() {
            return None;
        }
        let pause_ms = self.spacing.take(rate, now_ms, arrival.worth_ms())?;
        self.throttle.sent(now_ms);
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.in_flight.insert(ticket, None);
        Some(Answer::Send { ticket, pause_ms })
    }

    fn hold(&mut self, limits: Limits, arrival: Arrival, now_ms: u64, expected_ms: u64, why: Why) -> Answer {
        let until = match (why, arrival, self.throttle.limit(limits.rate, now_ms)) {
            (Why::InFlight, _, _) => busy(arrival),
            (_, Arrival::New, Some(rate)) => {
                if self.spacing.reserved_ms(now_ms) == 0 {
                    self.promising_ms = now_ms;
                }
                Until::In(self.spacing.reserve(rate, now_ms, expected_ms))
            }
            // One whose time had come does not queue up behind all others again.
            _ => Until::In(expected_ms.clamp(*LATER_MS.start(), *LATER_MS.end())),
        };
        Answer::Hold { until, why }
    }

    pub fn stop_waiting(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// The request has a seat and begins now.
    pub fn begun(&mut self, ticket: Ticket, now_ms: u64) {
        if let Some(began) = self.in_flight.get_mut(&ticket) {
            *began = Some(now_ms);
        }
    }

    /// The request has ended, or does not begin after all. How long it took.
    pub fn finished(&mut self, ticket: Ticket, now_ms: u64) -> Option<u64> {
        let took_ms = now_ms.saturating_sub(self.in_flight.remove(&ticket)??);
        let took = took_ms as f64;
        let weight = if took > self.mean_ms { SLOWER } else { FASTER };
        self.mean_ms += (took - self.mean_ms) * weight;
        self.ended = self.ended.saturating_add(1);
        Some(took_ms)
    }

    /// Where its next request should be made. `is_familiar`: it has lately answered promptly.
    pub fn room(&self, is_familiar: bool, now_ms: u64) -> Room {
        match (self.round_ms(now_ms) > SLOW_MS as f64, is_familiar) {
            (true, _) => Room::Slow,
            (false, true) => Room::Prompt,
            (false, false) => Room::Unknown,
        }
    }

    /// The endpoint has answered this request with the wish to slow down. To be called before `finished`. Returns the length
    /// of a pause that all workers should know of.
    pub fn slow_down(&mut self, ticket: Ticket, asked: Option<Duration>, now_ms: u64) -> Option<Duration> {
        let began = (*self.in_flight.get(&ticket)?)?;
        self.throttle.slow_down(began, asked, now_ms)
    }

    /// An operator has lifted its pauses: what it asked for is forgotten, and so are times that were promised. False: there
    /// was nothing to forget.
    pub fn lift(&mut self, now_ms: u64) -> bool {
        let was_limited = self.limited(now_ms).is_some();
        self.throttle.lift();
        self.spacing.forget_promises();
        was_limited
    }

    /// What deliveries wait for, beside requests in flight.
    pub fn limited(&self, now_ms: u64) -> Option<Limited> {
        if let Some((since_ms, until_ms)) = self.throttle.span_ms(now_ms) {
            return Some(Limited { by: Why::Slowed, since_ms, until_ms });
        }
        let reserved = self.spacing.reserved_ms(now_ms);
        let until_ms = now_ms + reserved;
        (reserved > 0).then_some(Limited { by: Why::Rate, since_ms: self.promising_ms, until_ms })
    }

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Nothing in flight, nobody waiting, and no promise or restraint left: the gate may be forgotten.
    pub fn is_idle(&self, now_ms: u64) -> bool {
        self.in_flight.is_empty()
            && self.waiting == 0
            && self.spacing.reserved_ms(now_ms) == 0
            && self.throttle.is_over(now_ms)
    }

    fn expected_wait(&self, limits: Limits, arrival: Arrival, now_ms: u64, place: usize) -> (u64, Why) {
        let busy = (self.rounds_ms(limits, now_ms, place), Why::InFlight);
        let slowed = (self.throttle.pause_ms(now_ms), Why::Slowed);
        let Some(rate) = self.throttle.limit(limits.rate, now_ms) else { return longest([busy, slowed]) };
        let reserved = if arrival == Arrival::New { self.spacing.reserved_ms(now_ms) } else { 0 };
        let paced = self.spacing.wait_ms(rate, now_ms, place).max(reserved);
        let why = if self.throttle.is_over(now_ms) { Why::Rate } else { Why::Slowed };
        longest([busy, slowed, (paced, why)])
    }

    fn rounds_ms(&self, limits: Limits, now_ms: u64, place: usize) -> u64 {
        let at_once = limits.max_in_flight.max(1);
        let rounds = place.div_ceil(at_once) as f64;
        let relied_on = self.ended >= at_once.saturating_mul(ROUNDS_UNTIL_RELIED_ON);
        let round_ms = if relied_on { self.round_ms(now_ms) } else { self.oldest_ms(now_ms).unwrap_or(0.0) };
        (round_ms * rounds) as u64
    }

    /// An endpoint that has stopped answering shows in the age of its oldest request long before the mean moves.
    fn round_ms(&self, now_ms: u64) -> f64 {
        self.oldest_ms(now_ms).map_or(self.mean_ms, |oldest_ms| self.mean_ms.max(oldest_ms))
    }

    /// The oldest of many is always older than the mean, and says nothing while it is young.
    fn oldest_ms(&self, now_ms: u64) -> Option<f64> {
        let began = self.in_flight.values().find_map(|began| *began)?;
        Some(now_ms.saturating_sub(began) as f64).filter(|oldest_ms| *oldest_ms > SLOW_MS as f64)
    }
}

/// For one that the endpoint, or the worker's slow room, has no place for.
pub fn busy(arrival: Arrival) -> Until {
    match arrival {
        Arrival::New => Until::Now,
        Arrival::Due => Until::OwnTime,
    }
}

fn longest<const N: usize>(waits: [(u64, Why); N]) -> (u64, Why) {
    // Of equal ones the first.
    waits.into_iter().rev().max_by_key(|(ms, _)| *ms).unwrap_or((0, Why::InFlight))
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
