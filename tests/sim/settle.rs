//! What a request says is recorded, many with one statement; then the message is acknowledged.

use posthaste::domain::circuit::{Health, Rules, Turn};
use posthaste::domain::flows::Became;

use super::clock::{Event, Job, MS, SECOND, Time};
use super::world::World;

const BATCH: usize = 200;
/// Statements at once.
const UNDER_WAY: usize = 2;
const STATEMENT: Time = 2 * MS;
const PER_ROW: Time = 10;
/// From one statement to the next, unless the batch is full.
const GATHER: Time = 10 * MS;

/// A tenth of the default times, as everything here takes a tenth of its time.
pub const RULES: Rules = Rules {
    enabled: true,
    min_failures: 20,
    min_duration_ms: 10_000,
    failure_share: 0.5,
    cooldown_ms: 10_000,
    max_cooldown_ms: 60_000,
};

#[derive(Default)]
pub struct Settler {
    jobs: Vec<u32>,
    /// Statements.
    under_way: usize,
    planned: bool,
    last: Time,
}

impl World {
    /// The answer has been read.
    pub fn finished(&mut self, number: u32) {
        let now_ms = self.clock.now_ms();
        let delivery = self.delivery(number);
        let (worker, endpoint, failed) = (delivery.worker, delivery.endpoint, delivery.failed);
        self.stand_up(number);
        let health = if failed { Health::Bad } else { Health::Good };
        let circuit = self.circuits[endpoint as usize];
        let window = &mut self.workers[worker].gates[endpoint as usize].window;
        let keeps_failing = window.keeps_failing(circuit, &RULES);
        let turn = window.fold(health, circuit, &RULES, now_ms);
        self.delivery(number).keeps_failing = keeps_failing;
        self.leave_gate(number);
        if let Some(turn) = turn {
            self.turn(endpoint, turn);
        }
        self.process(Job::Record, number);
    }

    pub fn submit(&mut self, number: u32) {
        let worker = self.delivery(number).worker;
        self.workers[worker].settler.jobs.push(number);
        self.settle_soon(worker);
    }

    fn turn(&mut self, endpoint: u32, turn: Turn) {
        let event = match turn {
            Turn::Open => Event::Open { endpoint },
            Turn::Close => Event::Close { endpoint, healed: false },
            Turn::Heal => Event::Close { endpoint, healed: true },
        };
        self.clock.after(STATEMENT, event);
    }

    fn settle_soon(&mut self, worker: usize) {
        let settler = &mut self.workers[worker].settler;
        if settler.planned || settler.under_way == UNDER_WAY || settler.jobs.is_empty() {
            return;
        }
        settler.planned = true;
        let now = self.clock.now();
        let at = if settler.jobs.len() >= BATCH { now } else { now.max(settler.last + GATHER) };
        self.clock.at(at, Event::Settle { worker });
    }

    pub fn settle(&mut self, worker: usize) {
        let settler = &mut self.workers[worker].settler;
        (settler.planned, settler.last) = (false, self.clock.now());
        settler.under_way += 1;
        let batch: Vec<u32> = settler.jobs.drain(..settler.jobs.len().min(BATCH)).collect();
        self.clock.after(STATEMENT + PER_ROW * batch.len() as u64, Event::Settled { worker, batch });
        self.settle_soon(worker);
    }

    pub fn settled(&mut self, worker: usize, batch: &[u32]) {
        self.workers[worker].settler.under_way -= 1;
        self.settle_soon(worker);
        for number in batch {
            self.record(*number);
            self.acknowledge(*number);
        }
    }

    fn record(&mut self, number: u32) {
        let now = self.clock.now();
        let delivery = self.delivery(number);
        let (endpoint, failed, keeps_failing) = (delivery.endpoint, delivery.failed, delivery.keeps_failing);
        delivery.became = Some(if failed { Became::Failed } else { Became::Taken });
        if !failed {
            let group = self.group(endpoint);
            group.delivered += 1;
            group.last = now;
            self.figures.delivered[endpoint as usize] += 1;
            self.figures.by_second[(now / SECOND) as usize] += 1;
        } else if keeps_failing {
            self.release.hold(endpoint, number, now + self.setup.retry_after);
        } else {
            self.clock.after(self.setup.retry_after, Event::Retry { delivery: number });
        }
    }
}
