//! A delivery that its endpoint's gate has let in: it takes a seat in a room of the lane, and makes its request.

use posthaste::domain::gate::{Arrival, busy};
use posthaste::domain::rooms::{Entry, SLOW_MS, Seat};

use super::clock::{Event, Job, MS, Time};
use super::world::{AGAIN, World};

impl World {
    pub fn take_seat(&mut self, number: u32) {
        let (now, now_ms) = (self.clock.now(), self.clock.now_ms());
        let delivery = self.delivery(number);
        let (worker, endpoint, lane, stay) = (delivery.worker, delivery.endpoint, delivery.lane, delivery.stay);
        let patience = delivery.arrival().patience().as_micros() as Time;
        let patience = patience.saturating_sub(now - delivery.came);
        let tenant = if self.setup.parts.seats_in_turn { self.tenant(endpoint) } else { 0 };
        let worker = &mut self.workers[worker];
        let is_familiar = !self.setup.parts.unknown_apart || worker.familiar.knows(&endpoint, now_ms);
        let room = worker.gates[endpoint as usize].gate.room(is_familiar, now_ms);
        let places = &mut worker.lanes[lane];
        let room = if self.setup.parts.two_rooms { room } else { posthaste::domain::rooms::Room::Prompt };
        match places.rooms.enter(tenant, room, lane == AGAIN) {
            Entry::Begin(seat) => {
                self.delivery(number).seat = Some(seat);
                self.begin_request(number);
            }
            Entry::Wait(seat) => {
                places.seats.insert(seat, number);
                self.delivery(number).seat = Some(seat);
                self.clock.after(patience, Event::GiveUp { delivery: number, stay });
            }
            Entry::Full => self.go_back(number),
        }
    }

    fn go_back(&mut self, number: u32) {
        self.leave_gate(number);
        let arrival: Arrival = self.delivery(number).arrival();
        self.back(number, busy(arrival));
    }

    pub fn give_up(&mut self, number: u32, stay: u32) {
        let delivery = self.delivery(number);
        let (worker, lane, is_over) = (delivery.worker, delivery.lane, delivery.stay != stay);
        let Some(seat) = delivery.seat else { return };
        if is_over || self.workers[worker].lanes[lane].seats.remove(&seat).is_none() {
            return;
        }
        self.stand_up(number);
        self.go_back(number);
    }

    /// Seats that have become free are taken by those who wait for them.
    pub fn seated(&mut self, worker: usize, lane: usize, seats: Vec<Seat>) {
        for seat in seats {
            if let Some(number) = self.workers[worker].lanes[lane].seats.remove(&seat) {
                self.begin_request(number);
            }
        }
    }

    pub fn stand_up(&mut self, number: u32) {
        let delivery = self.delivery(number);
        let (worker, lane) = (delivery.worker, delivery.lane);
        let Some(seat) = delivery.seat.take() else { return };
        let seats = self.workers[worker].lanes[lane].rooms.leave(seat);
        self.seated(worker, lane, seats);
    }

    fn begin_request(&mut self, number: u32) {
        let now_ms = self.clock.now_ms();
        let delivery = self.delivery(number);
        let (worker, endpoint, stay, ticket) = (delivery.worker, delivery.endpoint, delivery.stay, delivery.ticket);
        if let Some(ticket) = ticket {
            self.workers[worker].gates[endpoint as usize].gate.begun(ticket, now_ms);
        }
        if self.setup.parts.two_rooms {
            self.clock.after(SLOW_MS * MS, Event::GrewOld { delivery: number, stay });
        }
        self.process(Job::Begin, number);
    }

    pub fn grew_old(&mut self, number: u32, stay: u32) {
        let delivery = self.delivery(number);
        if delivery.stay != stay {
            return;
        }
        let (worker, lane) = (delivery.worker, delivery.lane);
        let Some(seat) = delivery.seat else { return };
        let seats = self.workers[worker].lanes[lane].rooms.grew_old(seat);
        self.seated(worker, lane, seats);
    }

    /// The request reaches the endpoint.
    pub fn sent(&mut self, number: u32) {
        let now = self.clock.now();
        let delivery = self.delivery(number);
        let (endpoint, emitted) = (delivery.endpoint, delivery.emitted);
        let first = !std::mem::replace(&mut delivery.requested, true);
        let place = endpoint as usize;
        let group = self.group(endpoint);
        group.requests += 1;
        if first {
            group.waits.push(now - emitted);
        }
        self.figures.opened(place, now);
        let answers = self.setup.endpoints[place].answers.take(now, &mut self.random);
        let takes = answers.filter(|time| *time < self.setup.timeout);
        self.delivery(number).failed = takes.is_none();
        self.clock.after(takes.unwrap_or(self.setup.timeout), Event::Answered { delivery: number });
    }

    pub fn answered(&mut self, number: u32) {
        let endpoint = self.delivery(number).endpoint;
        self.figures.open[endpoint as usize] -= 1;
        self.process(Job::End, number);
    }
}
