//! A delivery at its endpoint's gate: it asks, and waits, or goes on to a seat, or back to PostgreSQL.

use std::collections::VecDeque;

use posthaste::domain::circuit::State;
use posthaste::domain::gate::{Answer, Until};
use posthaste::domain::rooms::{Room, SLOW_MS};

use super::clock::{Event, MS, Time};
use super::world::{AGAIN, World};

/// Whoever waits asks again this often.
const ASK_AGAIN: Time = 100 * MS;
/// Reading the row of what was released.
const READ: Time = 3 * MS;
/// Until a hold is committed.
const HOLD: Time = 5 * MS;

/// Who waits at one gate, and when each asks again.
#[derive(Default)]
pub struct Line {
    waiting: VecDeque<(u32, Time)>,
    planned: bool,
}

impl World {
    /// A message has been decoded.
    pub fn taken(&mut self, delivery: u32) {
        if self.delivery(delivery).lane == AGAIN {
            self.clock.after(READ, Event::Read { delivery });
        } else {
            self.knock(delivery);
        }
    }

    pub fn knock(&mut self, number: u32) {
        let (now, now_ms) = (self.clock.now(), self.clock.now_ms());
        let delivery = self.delivery(number);
        delivery.came = now;
        let (worker, endpoint, lane, arrival) = (delivery.worker, delivery.endpoint, delivery.lane, delivery.arrival());
        if self.circuits[endpoint as usize].state == State::Open {
            return self.back(number, Until::Now);
        }
        let limits = self.limits(worker, endpoint, lane);
        let answer = self.workers[worker].gates[endpoint as usize].gate.ask(limits, arrival, now_ms);
        self.heed(number, answer);
    }

    fn heed(&mut self, number: u32, answer: Answer) {
        match answer {
            Answer::Send { ticket, pause_ms } => {
                assert_eq!(pause_ms, 0, "nobody has a rate limit in this world");
                self.delivery(number).ticket = Some(ticket);
                self.take_seat(number);
            }
            Answer::Wait => self.line_up(number),
            Answer::Hold { until, .. } => self.back(number, until),
        }
    }

    fn line_up(&mut self, number: u32) {
        let deadline = self.clock.now() + ASK_AGAIN;
        let delivery = self.delivery(number);
        let (worker, endpoint) = (delivery.worker, delivery.endpoint);
        let line = self.line(worker, endpoint);
        line.waiting.push_back((number, deadline));
        if !line.planned {
            line.planned = true;
            self.clock.at(deadline, Event::AskAgain { worker, endpoint });
        }
    }

    /// A request has ended: the one that waits for longest asks again.
    pub fn wake(&mut self, worker: usize, endpoint: u32) {
        let line = self.line(worker, endpoint);
        let Some((number, _)) = line.waiting.pop_front() else { return };
        let (now, now_ms) = (self.clock.now(), self.clock.now_ms());
        let delivery = self.delivery(number);
        let (lane, arrival, waited) = (delivery.lane, delivery.arrival(), (now - delivery.came) / MS);
        let limits = self.limits(worker, endpoint, lane);
        let gate = &mut self.workers[worker].gates[endpoint as usize].gate;
        let answer = gate.ask_again(limits, arrival, now_ms, waited);
        self.heed(number, answer);
    }

    /// Everybody asks again, in the order in which they wait.
    pub fn ask_again(&mut self, worker: usize, endpoint: u32) {
        let now = self.clock.now();
        let in_order = self.setup.parts.line_keeps_order;
        for _ in 0..self.line(worker, endpoint).waiting.len() {
            let front = self.line(worker, endpoint).waiting.front();
            if !in_order && front.is_some_and(|(_, deadline)| *deadline > now) {
                break;
            }
            self.wake(worker, endpoint);
        }
        let line = self.line(worker, endpoint);
        let next = line.waiting.front().map(|(_, deadline)| *deadline);
        line.planned = next.is_some();
        if let Some(deadline) = next {
            let at = if in_order { now + ASK_AGAIN } else { deadline };
            self.clock.at(at, Event::AskAgain { worker, endpoint });
        }
    }

    fn line(&mut self, worker: usize, endpoint: u32) -> &mut Line {
        &mut self.workers[worker].gates[endpoint as usize].line
    }

    /// The request is over, or is not made: the gate may let the next one in.
    pub fn leave_gate(&mut self, number: u32) {
        let now_ms = self.clock.now_ms();
        let delivery = self.delivery(number);
        let (worker, endpoint) = (delivery.worker, delivery.endpoint);
        let Some(ticket) = delivery.ticket.take() else { return };
        let worker_of = &mut self.workers[worker];
        let entry = &mut worker_of.gates[endpoint as usize];
        match entry.gate.finished(ticket, now_ms) {
            Some(..=SLOW_MS) => worker_of.familiar.greet(endpoint, now_ms),
            Some(_) if entry.gate.room(true, now_ms) == Room::Slow => worker_of.familiar.forget(&endpoint),
            _ => {}
        }
        if !entry.line.waiting.is_empty() {
            self.clock.after(0, Event::Wake { worker, endpoint });
        }
    }

    /// Back to PostgreSQL.
    pub fn back(&mut self, number: u32, until: Until) {
        let now = self.clock.now();
        let delivery = self.delivery(number);
        let due = match until {
            Until::Now => now,
            Until::OwnTime => delivery.emitted,
            Until::In(ms) => now + ms * MS,
        };
        self.clock.after(HOLD, Event::Held { delivery: number, due });
    }
}
