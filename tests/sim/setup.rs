//! What a scenario consists of.

use super::clock::{MS, SECOND, Time};
use super::random::Random;

/// How an endpoint answers.
#[derive(Debug, Clone)]
pub enum Answers {
    /// 200 after about this long.
    After(Time),
    Never,
    /// One way until that time, then the other.
    Until(Time, Box<Answers>, Box<Answers>),
}

impl Answers {
    /// `None`: not within any time.
    pub fn take(&self, now: Time, random: &mut Random) -> Option<Time> {
        match self {
            Answers::After(time) => Some(random.about(*time)),
            Answers::Never => None,
            Answers::Until(end, before, after) => if now < *end { before } else { after }.take(now, random),
        }
    }

    pub fn then(self, at: Time, after: Answers) -> Answers {
        Answers::Until(at, Box::new(self), Box::new(after))
    }
}

#[derive(Debug, Clone)]
pub struct Endpoint {
    pub tenant: u32,
    pub answers: Answers,
    /// Which figures count it.
    pub group: usize,
}

/// Endpoints from the first one on, and when they get events.
#[derive(Debug, Clone)]
pub struct Source {
    pub first: u32,
    pub endpoints: u32,
    pub from: Time,
    pub pattern: Pattern,
}

#[derive(Debug, Clone, Copy)]
pub enum Pattern {
    /// Single events, each to one of the endpoints, so many a second.
    Steady { per_second: f64, until: Time },
    /// Committed at once, to the endpoints in turn.
    Burst { events: u32 },
    /// Committed at once, each to all endpoints.
    FanOut { events: u32 },
}

/// The parts of the rule that a test may leave out, to show that the scenarios notice.
#[derive(Debug, Clone)]
pub struct Parts {
    pub claim_in_turn: bool,
    /// Who waits at a gate and asks again keeps the place in the line.
    pub line_keeps_order: bool,
    /// Messages ready in the queue up to which more are published.
    pub nearly_empty: usize,
    pub seats_in_turn: bool,
    pub two_rooms: bool,
    /// Endpoints that are not known have a part of the prompt room only.
    pub unknown_apart: bool,
    pub behind: bool,
    /// At most half of the places that are left, for each endpoint.
    pub half_of_places: bool,
    pub release_begins_elsewhere: bool,
    /// Places and rooms are shares of all.
    pub shares: bool,
}

impl Default for Parts {
    fn default() -> Parts {
        Parts {
            claim_in_turn: true,
            line_keeps_order: true,
            nearly_empty: 25,
            seats_in_turn: true,
            two_rooms: true,
            unknown_apart: true,
            behind: true,
            half_of_places: true,
            release_begins_elsewhere: true,
            shares: true,
        }
    }
}

#[derive(Debug, Clone)]
pub struct Setup {
    pub seed: u64,
    pub workers: usize,
    /// One more worker comes then.
    pub joins: Option<Time>,
    pub end: Time,
    pub timeout: Time,
    pub retry_after: Time,
    /// What the machine can do in a second.
    pub capacity: u64,
    pub endpoints: Vec<Endpoint>,
    pub sources: Vec<Source>,
    pub parts: Parts,
}

pub const HEALTHY: usize = 0;
/// Nothing is emitted at the end, so that what was emitted can arrive.
const REST: Time = SECOND;
const HEALTHY_ENDPOINTS: u32 = 50;

impl Setup {
    /// Fifty healthy endpoints of as many tenants, one event a second each, until the end.
    pub fn healthy(end: Time) -> Setup {
        let mut setup = Setup {
            seed: 11,
            workers: 1,
            joins: None,
            end: end + REST,
            timeout: 5 * SECOND,
            retry_after: 10 * SECOND,
            capacity: 5_000,
            endpoints: Vec::new(),
            sources: Vec::new(),
            parts: Parts::default(),
        };
        setup.tenants(HEALTHY_ENDPOINTS, HEALTHY, Answers::After(2 * MS));
        setup.steady(HEALTHY_ENDPOINTS, 1.0)
    }

    fn tenants(&mut self, count: u32, group: usize, answers: Answers) {
        for _ in 0..count {
            let tenant = self.endpoints.last().map_or(0, |last| last.tenant + 1);
            self.endpoints.push(Endpoint { tenant, answers: answers.clone(), group });
        }
    }

    /// Adds endpoints, each of a tenant of its own.
    pub fn endpoints(mut self, count: u32, group: usize, answers: Answers) -> Setup {
        self.tenants(count, group, answers);
        self
    }

    /// Adds endpoints of one tenant.
    pub fn tenant(mut self, count: u32, group: usize, answers: Answers) -> Setup {
        let tenant = self.endpoints.last().map_or(0, |last| last.tenant + 1);
        let endpoint = Endpoint { tenant, answers, group };
        self.endpoints.extend(std::iter::repeat_n(endpoint, count as usize));
        self
    }

    fn source(mut self, endpoints: u32, from: Time, pattern: Pattern) -> Setup {
        let first = self.endpoints.len() as u32 - endpoints;
        self.sources.push(Source { first, endpoints, from, pattern });
        self
    }

    /// Events for the endpoints added last, so many a second each.
    pub fn steady(self, endpoints: u32, each: f64) -> Setup {
        self.steady_from(endpoints, 0, each)
    }

    pub fn steady_from(self, endpoints: u32, from: Time, each: f64) -> Setup {
        let until = self.end - REST;
        self.source(endpoints, from, Pattern::Steady { per_second: each * f64::from(endpoints), until })
    }

    pub fn burst(self, endpoints: u32, from: Time, events: u32) -> Setup {
        self.source(endpoints, from, Pattern::Burst { events })
    }

    pub fn fan_out(self, endpoints: u32, from: Time, events: u32) -> Setup {
        self.source(endpoints, from, Pattern::FanOut { events })
    }

    pub fn workers(mut self, workers: usize) -> Setup {
        self.workers = workers;
        self
    }

    /// Leaves only the endpoints that were added and their events.
    pub fn without_healthy(mut self) -> Setup {
        self.sources.retain(|source| source.first >= HEALTHY_ENDPOINTS);
        self
    }

    pub fn without(mut self, change: impl FnOnce(&mut Parts)) -> Setup {
        change(&mut self.parts);
        self
    }
}
