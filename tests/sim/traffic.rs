//! Events as producers commit them.

use super::clock::Event;
use super::outbox::Row;
use super::setup::{Pattern, Source};
use super::world::World;

impl World {
    pub fn emit(&mut self, number: usize) {
        let source = self.setup.sources[number].clone();
        match source.pattern {
            Pattern::Steady { per_second, until } => {
                let endpoint = source.first + self.random.below(source.endpoints);
                self.add(endpoint, 1);
                let pause = self.random.pause(per_second);
                if self.clock.now() + pause < until {
                    self.clock.after(pause, Event::Emit { source: number });
                }
            }
            Pattern::Burst { events } => (0..events).for_each(|n| self.add(source.first + n % source.endpoints, 1)),
            Pattern::FanOut { events } => self.fan_out(&source, events),
        }
    }

    fn fan_out(&mut self, source: &Source, events: u32) {
        (0..events).for_each(|_| self.add(source.first, source.endpoints));
    }

    /// One event, owed to as many endpoints from the first one on.
    fn add(&mut self, first: u32, endpoints: u32) {
        let emitted = self.clock.now();
        self.group(first).owed += endpoints as usize;
        let tenant = self.tenant(first);
        self.outbox.add(tenant, Row { emitted, first, endpoints });
    }
}
