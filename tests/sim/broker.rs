//! The broker: two queues, first in, first out, and workers that get so many messages ahead.

use std::collections::VecDeque;

use super::clock::{Event, Job, Time};
use super::world::{Delivery, World};

/// From publishing a message until the broker can hand it out.
const TRANSFER: Time = 500;

#[derive(Default)]
pub struct Broker {
    queues: [VecDeque<u32>; 2],
    /// The worker served last.
    last: [usize; 2],
}

impl Broker {
    pub fn ready(&self, lane: usize) -> usize {
        self.queues[lane].len()
    }
}

impl World {
    pub fn publish(&mut self, lane: usize, messages: Vec<u32>) {
        for delivery in &messages {
            let endpoint = self.delivery(*delivery).endpoint;
            self.group(endpoint).published += 1;
        }
        self.clock.after(TRANSFER, Event::Queued { lane, messages });
    }

    pub fn queued(&mut self, lane: usize, messages: &[u32]) {
        self.broker.queues[lane].extend(messages);
        self.hand_out(lane);
        self.figures.most_ready[lane] = self.figures.most_ready[lane].max(self.broker.ready(lane));
    }

    /// Workers with free places get messages, one each in turn.
    pub fn hand_out(&mut self, lane: usize) {
        let workers = self.workers.len();
        let mut tried = 0;
        while tried < workers && !self.broker.queues[lane].is_empty() {
            let worker = (self.broker.last[lane] + 1) % workers;
            self.broker.last[lane] = worker;
            if !self.workers[worker].takes_place(lane) {
                tried += 1;
                continue;
            }
            tried = 0;
            let Some(number) = self.broker.queues[lane].pop_front() else { return };
            let delivery = self.delivery(number);
            (delivery.lane, delivery.worker) = (lane, worker);
            delivery.stay += 1;
            self.process(Job::Take, number);
        }
    }

    /// What the worker has settled makes room for the next.
    pub fn acknowledge(&mut self, delivery: u32) {
        let Delivery { lane, worker, .. } = *self.delivery(delivery);
        self.workers[worker].frees_place(lane);
        self.hand_out(lane);
    }
}
