//! Simulated time: what happens next.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Microseconds since the beginning.
pub type Time = u64;

pub const MS: Time = 1_000;
pub const SECOND: Time = 1_000_000;

/// Deliveries, endpoints, workers and sources of events are numbered; a lane is 0 for first attempts and 1 for the rest.
#[derive(Debug)]
pub enum Event {
    Emit {
        source: usize,
    },
    /// The relay looks at the outbox.
    Claim,
    Claimed,
    /// The relay has written a chunk, and goes on.
    Send,
    /// It reads how many messages are ready.
    Look,
    Confirmed {
        messages: usize,
    },
    /// Messages reach a queue of the broker.
    Queued {
        lane: usize,
        messages: Vec<u32>,
    },
    /// One of the processor's two cores has finished something.
    Processed {
        job: Job,
        delivery: u32,
    },
    /// The worker has read the row.
    Read {
        delivery: u32,
    },
    /// The oldest of those who wait at an endpoint's gate asks again.
    Wake {
        worker: usize,
        endpoint: u32,
    },
    AskAgain {
        worker: usize,
        endpoint: u32,
    },
    /// Patience for a seat is over. Like all that is about one stay in a worker, void when the stay is over.
    GiveUp {
        delivery: u32,
        stay: u32,
    },
    GrewOld {
        delivery: u32,
        stay: u32,
    },
    Answered {
        delivery: u32,
    },
    Settle {
        worker: usize,
    },
    Settled {
        worker: usize,
        batch: Vec<u32>,
    },
    /// The hold is committed; the row is due at this time.
    Held {
        delivery: u32,
        due: Time,
    },
    /// A delay queue hands it back.
    Retry {
        delivery: u32,
    },
    /// The release looks at what is held.
    Tick,
    Open {
        endpoint: u32,
    },
    HalfOpen {
        endpoint: u32,
    },
    Close {
        endpoint: u32,
        healed: bool,
    },
    /// A worker counts the workers.
    Count {
        worker: usize,
    },
    Join,
}

/// What the processor does for a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Job {
    /// What the relay, the broker and the worker do before there is a seat.
    Take,
    /// Writing the request.
    Begin,
    /// Reading the answer.
    End,
    /// What the worker, PostgreSQL and the broker do afterwards.
    Record,
}

struct Planned {
    at: Time,
    /// Of two at the same time the one planned first.
    order: u64,
    event: Event,
}

#[derive(Default)]
pub struct Clock {
    now: Time,
    planned: BinaryHeap<Planned>,
    orders: u64,
}

impl Clock {
    pub fn now(&self) -> Time {
        self.now
    }

    /// As the code of `domain` wants it.
    pub fn now_ms(&self) -> u64 {
        self.now / MS
    }

    pub fn after(&mut self, pause: Time, event: Event) {
        self.at(self.now + pause, event);
    }

    pub fn at(&mut self, at: Time, event: Event) {
        self.orders += 1;
        self.planned.push(Planned { at, order: self.orders, event });
    }

    pub fn next(&mut self) -> Option<Event> {
        let planned = self.planned.pop()?;
        self.now = planned.at;
        Some(planned.event)
    }
}

impl Ord for Planned {
    /// The heap gives its greatest first: that is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.order).cmp(&(self.at, self.order))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Planned {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Planned {}
