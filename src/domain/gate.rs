//! One endpoint's share: may this delivery be sent now, wait a little in the worker, or go back to PostgreSQL?
//!
//! The caller keeps one gate for each endpoint and passes the clock, as milliseconds since any fixed moment. An endpoint
//! may have `max_in_flight` requests open at once and begin `rate` requests in a second. What comes on top waits in the
//! worker as long as the wait is likely to be short: a burst to a prompt endpoint flows through, while one that hangs
//! gives its place in the prefetch back. Above a rate, each held delivery is given a time of its own: it comes back once.
//!
//! An endpoint that asks to slow down (429, or 503 with `Retry-After`) is left alone for the time that it asks for, and
//! then gets half of what it got before, growing by a tenth each second.

use std::collections::BTreeMap;
use std::time::Duration;

use super::throttle::{Spacing, Throttle};

/// The longest wait in the worker that is worth its place in the prefetch.
pub const MAX_WAIT: Duration = Duration::from_secs(2);
const MAX_WAIT_MS: u64 = MAX_WAIT.as_millis() as u64;
/// A wait that is short.
const SHORT_MS: u64 = 500;
/// How long a delivery stays in PostgreSQL that is held because of requests in flight: nobody knows when they end.
const HOLD: std::ops::RangeInclusive<u64> = 1_000..=30_000;
/// Weight of the newest response time in the running mean: one eighth.
const SMOOTHING: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// Requests open at once, from this worker.
    pub max_in_flight: usize,
    /// Deliveries that may wait in this worker, at most.
    pub max_waiting: usize,
    /// As many may wait while the wait is short: a burst to a prompt endpoint is soon over.
    pub max_waiting_shortly: usize,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Make the request after this pause; `finished` must be called with the ticket, whatever comes of it.
    Send { ticket: Ticket, pause_ms: u64 },
    /// Wait in the worker and ask again when a request has finished or the wait has grown too long.
    Wait,
    /// Back to PostgreSQL for this long.
    Hold { delay_ms: u64, why: Why },
}

/// What a delivery is held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    InFlight,
    Rate,
    /// The endpoint asked to slow down.
    Slowed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

#[derive(Debug, Default)]
pub struct Gate {
    in_flight: BTreeMap<Ticket, u64>,
    waiting: usize,
    next_ticket: u64,
    mean_ms: u64,
    spacing: Spacing,
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
        let (expected, why) = self.expected_wait(limits, arrival, now_ms, self.waiting + 1);
        if self.may_wait(limits, arrival, (expected, why)) {
            self.waiting += 1;
            Answer::Wait
        } else {
            self.hold(limits, arrival, now_ms, expected, why)
        }
    }

    /// Asks again for a delivery that waits. It stays counted as waiting only if the answer is `Wait` again.
    pub fn ask_again(&mut self, limits: Limits, arrival: Arrival, now_ms: u64, waited_ms: u64) -> Answer {
        self.stop_waiting();
        if let Some(send) = self.send(limits, arrival, now_ms) {
            return send;
        }
        let (expected, why) = self.expected_wait(limits, arrival, now_ms, self.waiting + 1);
        if waited_ms >= MAX_WAIT_MS || !self.may_wait(limits, arrival, (expected, why)) {
            return self.hold(limits, arrival, now_ms, expected, why);
        }
        self.waiting += 1;
        Answer::Wait
    }

    /// Whoever has waited for its time in PostgreSQL is not sent back for want of a place: its time is now.
    fn may_wait(&self, limits: Limits, arrival: Arrival, (expected_ms, why): (u64, Why)) -> bool {
        let its_time = arrival == Arrival::Due && why != Why::InFlight;
        let places = if its_time || expected_ms <= SHORT_MS { limits.max_waiting_shortly } else { limits.max_waiting };
        self.waiting < places && expected_ms <= MAX_WAIT_MS
    }

    /// A request may begin when there is room, its moment is near, and nobody who was held before has that moment.
    fn send(&mut self, limits: Limits, arrival: Arrival, now_ms: u64) -> Option<Answer> {
        if self.in_flight.len() >= limits.max_in_flight.max(1) || self.throttle.pause_ms(now_ms) > 0 {
            return None;
        }
        let rate = self.throttle.limit(limits.rate, now_ms);
        if rate.is_some() && arrival == Arrival::New && self.spacing.reserved_ms(now_ms) > MAX_WAIT_MS {
            return None;
        }
        let pause_ms = self.spacing.take(rate, now_ms, MAX_WAIT_MS)?;
        self.throttle.sent(now_ms);
        Some(Answer::Send { ticket: self.start(now_ms + pause_ms), pause_ms })
    }

    fn hold(&mut self, limits: Limits, arrival: Arrival, now_ms: u64, expected: u64, why: Why) -> Answer {
        let delay_ms = match (why, self.throttle.limit(limits.rate, now_ms)) {
            // One whose time had come does not queue up behind all others again.
            (Why::Rate | Why::Slowed, Some(rate)) if arrival == Arrival::New => {
                self.spacing.reserve(rate, now_ms, expected)
            }
            _ => expected.clamp(*HOLD.start(), *HOLD.end()),
        };
        Answer::Hold { delay_ms, why }
    }

    pub fn stop_waiting(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    pub fn finished(&mut self, ticket: Ticket, now_ms: u64) {
        if let Some(started) = self.in_flight.remove(&ticket) {
            let took = now_ms.saturating_sub(started);
            self.mean_ms = (self.mean_ms * (SMOOTHING - 1) + took) / SMOOTHING;
        }
    }

    /// The endpoint has answered this request with the wish to slow down. To be called before `finished`.
    pub fn slow_down(&mut self, ticket: Ticket, asked: Option<Duration>, now_ms: u64) {
        if let Some(started) = self.in_flight.get(&ticket) {
            self.throttle.slow_down(*started, asked, now_ms);
        }
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

    fn start(&mut self, at_ms: u64) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.in_flight.insert(ticket, at_ms);
        ticket
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

    /// An endpoint that has stopped answering shows in the age of its oldest request long before the mean moves.
    fn rounds_ms(&self, limits: Limits, now_ms: u64, place: usize) -> u64 {
        let oldest = self.in_flight.values().next().map_or(0, |started| now_ms.saturating_sub(*started));
        let round_ms = self.mean_ms.max(oldest);
        let rounds = place.div_ceil(limits.max_in_flight.max(1)) as u64;
        round_ms.saturating_mul(rounds)
    }
}

fn longest<const N: usize>(waits: [(u64, Why); N]) -> (u64, Why) {
    waits.into_iter().max_by_key(|(ms, _)| *ms).unwrap_or((0, Why::InFlight))
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
