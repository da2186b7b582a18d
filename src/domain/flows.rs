//! What of each endpoint is on its way since the release let it go, and how much more may follow in this tick.

use std::collections::HashMap;

use uuid::Uuid;

use super::ids::DeliveryKey;
use super::window::{Mode, Outcomes, TokenBucket, Window};

/// A release that is later than two ticks: the endpoint does not keep up.
pub const BEHIND_MS: i64 = 200;

/// Beside the places of workers for retries, so many times as many may be on their way to endpoints that keep up. They wait in
/// the broker, where they keep others waiting for about two ticks, as long as these endpoints go on keeping up.
const BESIDE_PLACES: u32 = 2;

/// An endpoint whose flow has been idle for this long is forgotten.
const FORGET_MS: u64 = 60_000;

/// A delivery that was let go, with the attempts that it had then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Let {
    pub key: DeliveryKey,
    pub attempts: i32,
}

/// What became of a delivery that was let go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Became {
    /// Delivered, or refused for good: the endpoint takes what it gets.
    Taken,
    /// An attempt was made, and failed.
    Failed,
    /// Held again without an attempt, or gone.
    Back,
}

/// An endpoint with held deliveries whose time has come, and that may be sent to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Due {
    pub endpoint_id: Uuid,
    pub mode: Mode,
    /// Requests that may be open at once.
    pub max_in_flight: u32,
    /// Requests per second, where it has a limit.
    pub rate_limit: Option<f64>,
}

#[derive(Debug, Default)]
pub struct Flows {
    endpoints: HashMap<Uuid, Flow>,
    on_the_way: u32,
}

#[derive(Debug)]
struct Flow {
    window: Window,
    mode: Mode,
    bucket: TokenBucket,
    max_in_flight: u32,
    on_the_way: Vec<Let>,
    used_ms: u64,
}

impl Flow {
    fn new(now_ms: u64) -> Flow {
        let (window, bucket) = (Window::default(), TokenBucket::new(now_ms));
        Flow { window, mode: Mode::Full, bucket, max_in_flight: u32::MAX, on_the_way: Vec::new(), used_ms: now_ms }
    }

    fn room(&mut self, due: &Due, now_ms: u64) -> u32 {
        // It has failed since it was last let go without care.
        if self.mode == Mode::Full && due.mode != Mode::Full {
            self.window = Window::default();
        }
        (self.mode, self.max_in_flight, self.used_ms) = (due.mode, due.max_in_flight, now_ms);
        let room = self.window.room(due.mode, self.on_the_way.len() as u32, due.max_in_flight);
        due.rate_limit.map_or(room, |limit| room.min(self.bucket.room(limit, now_ms)))
    }

    fn keeps_up(&self) -> bool {
        self.window.keeps_up(self.count(), self.max_in_flight)
    }

    fn count(&self) -> u32 {
        self.on_the_way.len() as u32
    }
}

impl Flows {
    /// How many of each endpoint are let go now, in the order given: within its window, and at most half of what is left of
    /// the workers' `places` for retries, so that those who come first leave something to the others. An endpoint with nothing on its way gets
    /// one all the same. No more than `most` in all, and on top of that what only endpoints get that keep up: a fast one would
    /// wait most of each tick otherwise.
    pub fn allot(&mut self, due: &[Due], places: u32, most: u32, now_ms: u64) -> Vec<(Uuid, u32)> {
        let mut left = self.left_of(places);
        let mut all = places.saturating_mul(1 + BESIDE_PLACES).saturating_sub(self.on_the_way);
        let mut most = most;
        let mut allotted = Vec::new();
        for one in due {
            let flow = self.endpoints.entry(one.endpoint_id).or_insert_with(|| Flow::new(now_ms));
            let least = u32::from(flow.on_the_way.is_empty());
            let room = flow.room(one, now_ms);
            let count = room.min((left / 2).max(least)).min(most);
            left = left.saturating_sub(count);
            most -= count;
            all = all.saturating_sub(count);
            let more = if flow.keeps_up() { (room - count).min(all / 2) } else { 0 };
            all -= more;
            if count + more > 0 {
                allotted.push((one.endpoint_id, count + more));
            }
        }
        allotted
    }

    /// Places that nothing is on its way to. Endpoints that keep up leave half to the others, however many are on their way
    /// to them.
    fn left_of(&self, places: u32) -> u32 {
        let keep_up: u32 = self.endpoints.values().filter(|flow| flow.keeps_up()).map(Flow::count).sum();
        let left = places.saturating_sub(self.on_the_way - keep_up);
        left - keep_up.min(left / 2)
    }

    pub fn let_go(&mut self, delivery: Let, now_ms: u64) {
        let flow = self.endpoints.entry(delivery.key.endpoint_id).or_insert_with(|| Flow::new(now_ms));
        flow.on_the_way.push(delivery);
        flow.bucket.let_go(1);
        self.on_the_way += 1;
    }

    /// What is on its way, to be looked up.
    pub fn on_the_way(&self) -> impl Iterator<Item = &Let> {
        self.endpoints.values().flat_map(|flow| &flow.on_the_way)
    }

    pub fn count_on_the_way(&self) -> u32 {
        self.on_the_way
    }

    /// What is absent from `became` is still on its way.
    pub fn learn(&mut self, became: &HashMap<DeliveryKey, Became>) {
        for flow in self.endpoints.values_mut().filter(|flow| !flow.on_the_way.is_empty()) {
            let mut outcomes = Outcomes::default();
            flow.on_the_way.retain(|delivery| {
                match became.get(&delivery.key) {
                    Some(Became::Taken) => outcomes.taken += 1,
                    Some(Became::Failed) => outcomes.failed += 1,
                    Some(Became::Back) => outcomes.back += 1,
                    None => return true,
                }
                false
            });
            self.on_the_way -= outcomes.taken + outcomes.failed + outcomes.back;
            flow.window.learn(flow.mode, outcomes);
        }
    }

    pub fn forget_idle(&mut self, now_ms: u64) {
        self.endpoints.retain(|_, flow| !flow.on_the_way.is_empty() || flow.used_ms + FORGET_MS > now_ms);
    }
}

#[cfg(test)]
#[path = "flows_tests.rs"]
mod tests;
