//! What a run has shown.

use super::clock::{SECOND, Time};
use super::worker::MAX_IN_FLIGHT;

#[derive(Debug, Default, Clone)]
pub struct Group {
    /// Deliveries owed.
    pub owed: usize,
    /// From the event's commit to the arrival of its first request, in the order of arrival.
    pub waits: Vec<Time>,
    pub requests: usize,
    pub delivered: usize,
    /// The last time that something was delivered.
    pub last: Time,
    /// Messages published.
    pub published: usize,
    /// By the worker.
    pub held: usize,
    /// By the claim.
    pub written_held: usize,
}

#[derive(Debug, Default)]
pub struct Figures {
    pub groups: Vec<Group>,
    /// By endpoint.
    pub delivered: Vec<usize>,
    /// Requests open at each endpoint, now and at most.
    pub open: Vec<usize>,
    pub most_open: Vec<usize>,
    /// The last time that more were open at an endpoint than it allows.
    pub above_limit: Option<Time>,
    /// Deliveries made in each second.
    pub by_second: Vec<usize>,
    /// Messages ready in each queue, at most.
    pub most_ready: [usize; 2],
    /// Rows held at the end.
    pub left_held: usize,
    pub end: Time,
}

impl Group {
    /// The wait that so many of a hundred stay below, in milliseconds. What has not arrived counts as endless.
    pub fn percentile(&self, share: f64) -> f64 {
        let mut waits = self.waits.clone();
        waits.sort_unstable();
        let place = (self.owed as f64 * share / 100.0) as usize;
        waits.get(place).map_or(f64::INFINITY, |wait| *wait as f64 / 1_000.0)
    }

    pub fn p50(&self) -> f64 {
        self.percentile(50.0)
    }

    pub fn p99(&self) -> f64 {
        self.percentile(99.0)
    }

    /// Whether those who came late waited no longer than those who came early.
    pub fn is_flat(&self) -> bool {
        let (early, late) = self.waits.split_at(self.waits.len() / 2);
        let mean = |waits: &[Time]| waits.iter().sum::<Time>() / waits.len().max(1) as Time;
        mean(late) <= mean(early) * 3 / 2
    }

    /// Messages for each request made.
    pub fn trips(&self) -> f64 {
        self.published as f64 / self.requests.max(1) as f64
    }
}

impl Figures {
    pub fn all_delivered(&self) -> usize {
        self.groups.iter().map(|group| group.delivered).sum()
    }

    /// A request has reached the endpoint.
    pub fn opened(&mut self, endpoint: usize, now: Time) {
        self.open[endpoint] += 1;
        self.most_open[endpoint] = self.most_open[endpoint].max(self.open[endpoint]);
        if self.open[endpoint] > MAX_IN_FLIGHT {
            self.above_limit = Some(now);
        }
    }

    /// Deliveries a second, on average between two times.
    pub fn throughput(&self, from: Time, to: Time) -> f64 {
        let (from, to) = ((from / SECOND) as usize, (to / SECOND) as usize);
        let made: usize = self.by_second.iter().take(to).skip(from).sum();
        made as f64 / (to - from) as f64
    }

    /// One line for each group, shown when a test fails.
    pub fn print(&self) {
        for (n, group) in self.groups.iter().enumerate() {
            println!(
                "group {n}: owed {} delivered {} p50 {:.1} p99 {:.1} ms trips {:.2} held {} + {}",
                group.owed,
                group.delivered,
                group.p50(),
                group.p99(),
                group.trips(),
                group.held,
                group.written_held
            );
        }
        println!("{} delivered, {} left held", self.all_delivered(), self.left_held);
    }
}
