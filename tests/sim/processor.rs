//! The processor: two cores that work off what comes, first come, first served.

use std::collections::VecDeque;

use super::clock::{Event, Job, SECOND, Time};
use super::world::World;

const CORES: usize = 2;

#[derive(Default)]
pub struct Processor {
    busy: usize,
    waiting: VecDeque<(Job, u32)>,
}

/// The parts of one delivery, all of which take as long.
const JOBS: u64 = 4;

impl World {
    pub fn process(&mut self, job: Job, delivery: u32) {
        let takes = self.job_takes();
        if self.processor.busy == CORES {
            self.processor.waiting.push_back((job, delivery));
        } else {
            self.processor.busy += 1;
            self.clock.after(takes, Event::Processed { job, delivery });
        }
    }

    fn job_takes(&self) -> Time {
        CORES as u64 * SECOND / JOBS / self.setup.capacity
    }

    pub fn processed(&mut self, job: Job, delivery: u32) {
        let takes = self.job_takes();
        match self.processor.waiting.pop_front() {
            Some((job, delivery)) => self.clock.after(takes, Event::Processed { job, delivery }),
            None => self.processor.busy -= 1,
        }
        match job {
            Job::Take => self.taken(delivery),
            Job::Begin => self.sent(delivery),
            Job::End => self.finished(delivery),
            Job::Record => self.submit(delivery),
        }
    }
}
