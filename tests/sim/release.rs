//! Held rows, and the release that lets them go: the leader's, ten times a second.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use posthaste::domain::circuit::State;
use posthaste::domain::flows::{Became, Due, Flows, Let};
use posthaste::domain::ids::DeliveryKey;
use posthaste::domain::window::Mode;
use uuid::Uuid;

use super::clock::{Event, MS, Time};
use super::worker;
use super::world::{AGAIN, World};

const TICK: Time = 100 * MS;
/// The most that is let go in one tick.
const RELEASE: u32 = 500;
const PROBES: u32 = 3;
const BEHIND: Time = 200 * MS;
/// The statement; then it is published in parts.
const STATEMENT: Time = 5 * MS;
const PARTS: usize = 4;
const AT_ONCE: usize = 10;
const PAUSE: Time = 20 * MS;

#[derive(Default)]
pub struct Release {
    /// By endpoint, in the order in which they are due.
    held: BTreeMap<u32, BTreeSet<(Time, u32)>>,
    flows: Flows,
    behind: BTreeSet<u32>,
    ticks: usize,
}

impl Release {
    pub fn hold(&mut self, endpoint: u32, delivery: u32, due: Time) {
        self.held.entry(endpoint).or_default().insert((due, delivery));
    }

    pub fn is_behind(&self, endpoint: u32) -> bool {
        self.behind.contains(&endpoint)
    }

    pub fn rows(&self) -> usize {
        self.held.values().map(BTreeSet::len).sum()
    }

    fn take(&mut self, endpoint: u32, most: u32, now: Time) -> Vec<u32> {
        let Some(rows) = self.held.get_mut(&endpoint) else { return Vec::new() };
        let due: Vec<(Time, u32)> =
            rows.iter().take(most as usize).take_while(|(due, _)| *due <= now).copied().collect();
        due.iter().for_each(|row| {
            rows.remove(row);
        });
        if rows.is_empty() {
            self.held.remove(&endpoint);
        }
        due.into_iter().map(|(_, delivery)| delivery).collect()
    }
}

fn key(delivery: u32, endpoint: u32) -> DeliveryKey {
    DeliveryKey { event_id: Uuid::from_u128(u128::from(delivery)), endpoint_id: Uuid::from_u128(u128::from(endpoint)) }
}

fn number(id: Uuid) -> u32 {
    id.as_u128() as u32
}

impl World {
    pub fn held(&mut self, number: u32, due: Time) {
        let delivery = self.delivery(number);
        delivery.became = Some(Became::Back);
        let endpoint = delivery.endpoint;
        self.group(endpoint).held += 1;
        self.release.hold(endpoint, number, due);
        self.acknowledge(number);
    }

    fn mode(&self, endpoint: u32) -> Option<Mode> {
        let circuit = self.circuits[endpoint as usize];
        match circuit.state {
            State::Open => None,
            State::HalfOpen => Some(Mode::Probe(PROBES)),
            State::Closed if circuit.trips > 0 => Some(Mode::Ramp),
            State::Closed => Some(Mode::Full),
        }
    }

    pub fn tick(&mut self) {
        self.learn();
        let due = self.look_for_due();
        let places = if self.setup.parts.half_of_places { worker::places_of_retries() } else { u32::MAX };
        let (now, now_ms) = (self.clock.now(), self.clock.now_ms());
        self.release.flows.forget_idle(now_ms);
        let mut messages = Vec::new();
        for (id, count) in self.release.flows.allot(&due, places, RELEASE, now_ms) {
            let endpoint = number(id);
            for delivery in self.release.take(endpoint, count, now) {
                self.delivery(delivery).became = None;
                self.release.flows.let_go(Let { key: key(delivery, endpoint), attempts: 0 }, now_ms);
                messages.push(delivery);
            }
        }
        self.in_parts(&messages);
        self.clock.after(TICK, Event::Tick);
    }

    /// What became of what was let go.
    fn learn(&mut self) {
        let became: HashMap<DeliveryKey, Became> = {
            let on_the_way = self.release.flows.on_the_way();
            let heard = on_the_way
                .filter_map(|one| Some((one.key, self.deliveries[number(one.key.event_id) as usize].became?)));
            heard.collect()
        };
        self.release.flows.learn(&became);
    }

    fn look_for_due(&mut self) -> Vec<Due> {
        let now = self.clock.now();
        let (mut due, mut behind) = (Vec::new(), BTreeSet::new());
        for (endpoint, rows) in &self.release.held {
            let Some((first, _)) = rows.first().filter(|(first, _)| *first <= now) else { continue };
            let Some(mode) = self.mode(*endpoint) else { continue };
            due.push(Due {
                endpoint_id: Uuid::from_u128(u128::from(*endpoint)),
                mode,
                max_in_flight: 32,
                rate_limit: None,
            });
            if first + BEHIND < now {
                behind.insert(*endpoint);
            }
        }
        self.release.behind = behind;
        self.release.ticks += 1;
        if self.setup.parts.release_begins_elsewhere {
            let begin = self.release.ticks % due.len().max(1);
            due.rotate_left(begin);
        }
        due
    }

    /// Many are published in parts, so that workers do not get all at once.
    fn in_parts(&mut self, messages: &[u32]) {
        let size = messages.len().div_ceil(PARTS).max(AT_ONCE);
        for (n, part) in messages.chunks(size).enumerate() {
            for delivery in part {
                let endpoint = self.delivery(*delivery).endpoint;
                self.group(endpoint).published += 1;
            }
            let at = STATEMENT + n as u64 * PAUSE;
            self.clock.after(at, Event::Queued { lane: AGAIN, messages: part.to_vec() });
        }
    }
}
