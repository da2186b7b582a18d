//! Everything there is in a run, and the loop that makes it happen.

use posthaste::domain::circuit::Circuit;
use posthaste::domain::flows::Became;
use posthaste::domain::gate::{Arrival, Ticket};
use posthaste::domain::rooms::Seat;

use super::broker::Broker;
use super::clock::{Clock, Event, SECOND, Time};
use super::figures::{Figures, Group};
use super::outbox::Outbox;
use super::processor::Processor;
use super::random::Random;
use super::relay::Relay;
use super::release::Release;
use super::setup::Setup;
use super::worker::Worker;

/// First attempts, and what is due again.
pub const FIRST: usize = 0;
pub const AGAIN: usize = 1;

/// One delivery: its row, its message and its stay in a worker, if it has one.
pub struct Delivery {
    pub endpoint: u32,
    pub emitted: Time,
    pub lane: usize,
    pub worker: usize,
    /// Counts its stays in workers, so that what was planned for an earlier one is void.
    pub stay: u32,
    pub came: Time,
    pub ticket: Option<Ticket>,
    pub seat: Option<Seat>,
    /// A request was made, whatever became of it.
    pub requested: bool,
    pub failed: bool,
    /// The worker asked for the next attempt to wait in PostgreSQL.
    pub keeps_failing: bool,
    /// Of a release that has not heard of it yet.
    pub became: Option<Became>,
}

impl Delivery {
    pub fn new(endpoint: u32, emitted: Time) -> Delivery {
        Delivery {
            endpoint,
            emitted,
            lane: FIRST,
            worker: 0,
            stay: 0,
            came: 0,
            ticket: None,
            seat: None,
            requested: false,
            failed: false,
            keeps_failing: false,
            became: None,
        }
    }

    pub fn arrival(&self) -> Arrival {
        if self.lane == FIRST { Arrival::New } else { Arrival::Due }
    }
}

pub struct World {
    pub setup: Setup,
    pub clock: Clock,
    pub random: Random,
    pub processor: Processor,
    pub outbox: Outbox,
    pub relay: Relay,
    pub release: Release,
    pub broker: Broker,
    pub workers: Vec<Worker>,
    /// As stored with each endpoint.
    pub circuits: Vec<Circuit>,
    pub deliveries: Vec<Delivery>,
    pub figures: Figures,
}

/// Runs the scenario to its end.
pub fn run(setup: Setup) -> Figures {
    let mut world = World::new(setup);
    world.begin();
    while let Some(event) = world.clock.next() {
        if world.clock.now() >= world.setup.end {
            break;
        }
        world.happens(event);
    }
    world.figures.left_held = world.release.rows();
    world.figures
}

impl World {
    fn new(setup: Setup) -> World {
        let endpoints = setup.endpoints.len();
        let groups = setup.endpoints.iter().map(|endpoint| endpoint.group + 1).max().unwrap_or(0);
        let figures = Figures {
            groups: vec![Group::default(); groups],
            delivered: vec![0; endpoints],
            open: vec![0; endpoints],
            most_open: vec![0; endpoints],
            by_second: vec![0; (setup.end / SECOND) as usize + 1],
            end: setup.end,
            ..Figures::default()
        };
        World {
            clock: Clock::default(),
            random: Random::new(setup.seed),
            processor: Processor::default(),
            outbox: Outbox::default(),
            relay: Relay::default(),
            release: Release::default(),
            broker: Broker::default(),
            workers: (0..setup.workers).map(|_| Worker::new(&setup, setup.workers)).collect(),
            circuits: vec![Circuit::default(); endpoints],
            deliveries: Vec::new(),
            figures,
            setup,
        }
    }

    fn begin(&mut self) {
        for source in 0..self.setup.sources.len() {
            self.clock.at(self.setup.sources[source].from, Event::Emit { source });
        }
        if let Some(joins) = self.setup.joins {
            self.clock.at(joins, Event::Join);
        }
        for worker in 0..self.workers.len() {
            self.clock.after(SECOND, Event::Count { worker });
        }
        self.clock.after(0, Event::Claim);
        self.clock.after(0, Event::Tick);
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Emit { source } => self.emit(source),
            Event::Claim => self.claim(),
            Event::Claimed => self.claimed(),
            Event::Send => self.written(),
            Event::Look => self.look(),
            Event::Confirmed { messages } => self.confirmed(messages),
            Event::Queued { lane, messages } => self.queued(lane, &messages),
            Event::Processed { job, delivery } => self.processed(job, delivery),
            Event::Read { delivery } => self.knock(delivery),
            Event::Wake { worker, endpoint } => self.wake(worker, endpoint),
            Event::AskAgain { worker, endpoint } => self.ask_again(worker, endpoint),
            Event::GiveUp { delivery, stay } => self.give_up(delivery, stay),
            Event::GrewOld { delivery, stay } => self.grew_old(delivery, stay),
            Event::Answered { delivery } => self.answered(delivery),
            Event::Settle { worker } => self.settle(worker),
            Event::Settled { worker, batch } => self.settled(worker, &batch),
            Event::Held { delivery, due } => self.held(delivery, due),
            Event::Retry { delivery } => self.publish(AGAIN, vec![delivery]),
            Event::Tick => self.tick(),
            Event::Open { endpoint } => self.open(endpoint),
            Event::HalfOpen { endpoint } => self.half_open(endpoint),
            Event::Close { endpoint, healed } => self.close(endpoint, healed),
            Event::Count { worker } => self.count(worker),
            Event::Join => self.join(),
        }
    }

    pub fn delivery(&mut self, delivery: u32) -> &mut Delivery {
        &mut self.deliveries[delivery as usize]
    }

    pub fn group(&mut self, endpoint: u32) -> &mut Group {
        &mut self.figures.groups[self.setup.endpoints[endpoint as usize].group]
    }

    pub fn tenant(&self, endpoint: u32) -> u32 {
        self.setup.endpoints[endpoint as usize].tenant
    }
}
