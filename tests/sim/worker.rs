//! A worker: its places, its rooms, and its share of what each endpoint may get.

use std::collections::HashMap;

use posthaste::domain::circuit::{self, State};
use posthaste::domain::familiar::Familiar;
use posthaste::domain::gate::{Gate, Limits};
use posthaste::domain::places::{self, Capacity, is_off};
use posthaste::domain::rooms::{Rooms, Seat, Sizes};
use posthaste::domain::work_queue::WorkQueue;

use super::clock::{Event, SECOND, Time};
use super::setup::{Parts, Setup};
use super::world::{AGAIN, FIRST, World};

const CAPACITY: Capacity = Capacity { requests: 1440, messages: 1536 };
pub const MAX_IN_FLIGHT: usize = 32;
/// Looks, one after the other, at which the places were off, before new ones are taken.
const LOOKS: u32 = 3;
const COUNT: Time = SECOND;

pub struct Worker {
    /// How many workers it knows of.
    pub workers: usize,
    pub lanes: [Places; 2],
    pub gates: Vec<Entry>,
    pub familiar: Familiar<u32>,
    pub settler: super::settle::Settler,
}

/// One lane's.
pub struct Places {
    pub rooms: Rooms<u32>,
    /// Who waits for which seat.
    pub seats: HashMap<Seat, u32>,
    prefetch: usize,
    in_hand: usize,
    looks: u32,
}

/// What a worker knows of one endpoint.
#[derive(Default)]
pub struct Entry {
    pub gate: Gate,
    pub window: circuit::Window,
    pub line: super::gate::Line,
}

fn places(parts: &Parts, lane: usize, workers: usize) -> (usize, Sizes) {
    let kind = if lane == FIRST { WorkQueue::Deliver } else { WorkQueue::Retry };
    let places = places::places(CAPACITY, kind, if parts.shares { workers } else { 1 });
    let mut rooms = places.rooms;
    if !parts.two_rooms {
        rooms = Sizes { prompt: rooms.prompt + rooms.slow, slow: 1 };
    }
    (usize::from(places.prefetch), rooms)
}

/// Of all workers, for what is due again.
pub fn places_of_retries() -> u32 {
    places::places(CAPACITY, WorkQueue::Retry, 1).prefetch.into()
}

impl Worker {
    pub fn new(setup: &Setup, workers: usize) -> Worker {
        let lane = |lane| {
            let (prefetch, rooms) = places(&setup.parts, lane, workers);
            Places { rooms: Rooms::new(rooms), seats: HashMap::new(), prefetch, in_hand: 0, looks: 0 }
        };
        Worker {
            workers,
            lanes: [lane(FIRST), lane(AGAIN)],
            gates: setup.endpoints.iter().map(|_| Entry::default()).collect(),
            familiar: Familiar::default(),
            settler: Default::default(),
        }
    }

    pub fn takes_place(&mut self, lane: usize) -> bool {
        let lane = &mut self.lanes[lane];
        let free = lane.in_hand < lane.prefetch;
        lane.in_hand += usize::from(free);
        free
    }

    pub fn frees_place(&mut self, lane: usize) {
        self.lanes[lane].in_hand -= 1;
    }
}

impl World {
    /// As `worker::share` says.
    pub fn limits(&self, worker: usize, endpoint: u32, lane: usize) -> Limits {
        let worker = &self.workers[worker];
        let most = (worker.lanes[lane].rooms.sizes().slow / 2).max(1);
        let probing = self.circuits[endpoint as usize].state == State::HalfOpen;
        let share =
            (MAX_IN_FLIGHT / worker.workers).clamp(1, if self.setup.parts.two_rooms { most } else { usize::MAX });
        Limits { max_in_flight: if probing { 1 } else { share }, rate: None }
    }

    /// The worker counts the workers, and its rooms follow; its places where they are off by much.
    pub fn count(&mut self, number: usize) {
        let workers = self.workers.len();
        self.workers[number].workers = workers;
        for lane in [FIRST, AGAIN] {
            let (prefetch, rooms) = places(&self.setup.parts, lane, workers);
            let changed = &mut self.workers[number].lanes[lane];
            if is_off(changed.prefetch as u16, prefetch as u16) {
                changed.looks += 1;
                if changed.looks >= LOOKS {
                    (changed.prefetch, changed.looks) = (prefetch, 0);
                }
            }
            let seats = changed.rooms.resize(rooms);
            self.seated(number, lane, seats);
            self.hand_out(lane);
        }
        self.clock.after(COUNT, Event::Count { worker: number });
    }

    /// A worker that joins counts itself before it consumes.
    pub fn join(&mut self) {
        let worker = self.workers.len();
        self.workers.push(Worker::new(&self.setup, worker + 1));
        self.clock.after(COUNT, Event::Count { worker });
        [FIRST, AGAIN].into_iter().for_each(|lane| self.hand_out(lane));
    }
}
