//! One endpoint's share: may this delivery be sent now, wait a little in the worker, or go back to PostgreSQL?
//!
//! The caller keeps one gate for each endpoint and passes the clock, as milliseconds since any fixed moment. An endpoint
//! may have `max_in_flight` requests open at once. What comes on top waits in the worker as long as the wait is likely to
//! be short: a burst to a prompt endpoint flows through, while one that hangs gives its place in the prefetch back.

use std::collections::BTreeMap;
use std::time::Duration;

/// The longest wait in the worker that is worth its place in the prefetch.
pub const MAX_WAIT: Duration = Duration::from_secs(2);
/// How long a held delivery stays in PostgreSQL before it may come back.
const HOLD: std::ops::RangeInclusive<u64> = 1_000..=30_000;
/// Weight of the newest response time in the running mean: one eighth.
const SMOOTHING: u64 = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests open at once, from this worker.
    pub max_in_flight: usize,
    /// Deliveries that may wait in this worker, at most.
    pub max_waiting: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Make the request now; `finished` must be called with the ticket, whatever comes of it.
    Send(Ticket),
    /// Wait in the worker and ask again when a request has finished or the wait has grown too long.
    Wait,
    /// Back to PostgreSQL for this long.
    Hold { delay_ms: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

#[derive(Debug, Default)]
pub struct Gate {
    in_flight: BTreeMap<Ticket, u64>,
    waiting: usize,
    next_ticket: u64,
    mean_ms: u64,
}

impl Gate {
    /// Asks for one delivery. After `Wait` the caller is counted as waiting until `stop_waiting`.
    pub fn ask(&mut self, limits: Limits, now_ms: u64) -> Answer {
        // Whoever waits already goes first.
        if self.waiting == 0 && self.has_room(limits) {
            return Answer::Send(self.start(now_ms));
        }
        let expected = self.expected_wait_ms(limits, now_ms, self.waiting + 1);
        if self.waiting < limits.max_waiting && expected <= MAX_WAIT.as_millis() as u64 {
            self.waiting += 1;
            Answer::Wait
        } else {
            Answer::Hold { delay_ms: expected.clamp(*HOLD.start(), *HOLD.end()) }
        }
    }

    /// Asks again for a delivery that waits. It stays counted as waiting only if the answer is `Wait` again.
    pub fn ask_again(&mut self, limits: Limits, now_ms: u64, waited_ms: u64) -> Answer {
        self.stop_waiting();
        if self.has_room(limits) {
            return Answer::Send(self.start(now_ms));
        }
        if waited_ms >= MAX_WAIT.as_millis() as u64 {
            let expected = self.expected_wait_ms(limits, now_ms, self.waiting + 1);
            return Answer::Hold { delay_ms: expected.clamp(*HOLD.start(), *HOLD.end()) };
        }
        self.ask(limits, now_ms)
    }

    fn has_room(&self, limits: Limits) -> bool {
        self.in_flight.len() < limits.max_in_flight.max(1)
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

    pub fn in_flight(&self) -> usize {
        self.in_flight.len()
    }

    pub fn waiting(&self) -> usize {
        self.waiting
    }

    /// Nothing in flight and nobody waiting: the gate may be forgotten.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.waiting == 0
    }

    fn start(&mut self, now_ms: u64) -> Ticket {
        let ticket = Ticket(self.next_ticket);
        self.next_ticket += 1;
        self.in_flight.insert(ticket, now_ms);
        ticket
    }

    /// An endpoint that has stopped answering shows in the age of its oldest request long before the mean moves.
    fn expected_wait_ms(&self, limits: Limits, now_ms: u64, place: usize) -> u64 {
        let oldest = self.in_flight.values().next().map_or(0, |started| now_ms.saturating_sub(*started));
        let round_ms = self.mean_ms.max(oldest);
        let rounds = place.div_ceil(limits.max_in_flight.max(1)) as u64;
        round_ms.saturating_mul(rounds)
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
