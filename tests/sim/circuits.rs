//! The stored states of the endpoints' circuits.

use posthaste::domain::circuit::{Circuit, State, cooldown_ms};

use super::clock::{Event, MS};
use super::settle::RULES;
use super::world::World;

impl World {
    pub fn open(&mut self, endpoint: u32) {
        let Circuit { state, trips } = self.circuits[endpoint as usize];
        if state == State::Open {
            return;
        }
        self.circuits[endpoint as usize] = Circuit { state: State::Open, trips: trips + 1 };
        let pause = cooldown_ms(&RULES, trips, self.random.share());
        self.clock.after(pause * MS, Event::HalfOpen { endpoint });
    }

    pub fn half_open(&mut self, endpoint: u32) {
        self.circuits[endpoint as usize].state = State::HalfOpen;
    }

    pub fn close(&mut self, endpoint: u32, healed: bool) {
        let circuit = &mut self.circuits[endpoint as usize];
        if healed {
            circuit.trips = 0;
        } else if circuit.state == State::HalfOpen {
            circuit.state = State::Closed;
        }
    }
}
