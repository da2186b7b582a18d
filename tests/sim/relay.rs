//! One relay: claims tenants in turn, and publishes while the queue of first attempts is nearly empty.

use std::time::Duration;

use posthaste::domain::circuit::State;
use posthaste::domain::outgoing::Outgoing;
use posthaste::domain::turns::{From, Turns};

use super::clock::{Event, MS, Time};
use super::outbox::{self, Row};
use super::world::{Delivery, FIRST, World};

const BATCH: u32 = 200;
const POLL: Time = 5 * MS;
/// What one claim takes, and beside that each row.
const CLAIM: Time = 500;
const PER_ROW: Time = 60;
const CHUNK: usize = 50;
const UNCONFIRMED: usize = 200;
const PER_MESSAGE: Time = 25;
const CONFIRM: Time = 2 * MS;
const LOOK_AGAIN: Time = 2 * MS;
const OTHERS: Time = 5 * MS;

pub struct Relay {
    turns: Turns,
    outgoing: Outgoing<u32>,
    rows: Vec<Row>,
    /// The claimer waits until less is waiting to be published.
    waits: bool,
    under_way: usize,
    /// Ready when it was last looked at, and published since.
    estimate: usize,
    looks: bool,
    /// A chunk is being written.
    writes: bool,
}

impl Default for Relay {
    fn default() -> Relay {
        Relay {
            turns: Turns::new(BATCH),
            outgoing: Outgoing::default(),
            rows: Vec::new(),
            waits: false,
            under_way: 0,
            estimate: 0,
            looks: false,
            writes: false,
        }
    }
}

impl World {
    pub fn claim(&mut self) {
        let (now, now_ms) = (self.clock.now(), self.clock.now_ms());
        let relay = &mut self.relay;
        relay.waits = !relay.outgoing.wants_more();
        if relay.waits {
            return;
        }
        let crowded = relay.outgoing.crowded();
        if self.setup.parts.claim_in_turn {
            let ask = relay.turns.ask(now_ms, &crowded);
            assert!(matches!(ask.from, From::Everyone { .. }), "claims are cheap in this world");
            let (rows, found) = self.outbox.claim(&ask, &crowded, now);
            let took = CLAIM + PER_ROW * rows.len() as u64;
            relay.turns.claimed(&ask, &found, Duration::from_micros(took), now_ms + took / MS);
            relay.rows = rows;
        } else {
            relay.rows = self.outbox.claim_oldest(BATCH as usize);
        }
        let (rows, crowded) = (relay.rows.len() as u64, !crowded.is_empty());
        match (rows, crowded) {
            (0, false) => self.clock.after(CLAIM + POLL, Event::Claim),
            (0, true) => self.clock.after(CLAIM + OTHERS, Event::Claim),
            _ => self.clock.after(CLAIM + PER_ROW * rows, Event::Claimed),
        }
    }

    /// The claim is committed.
    pub fn claimed(&mut self) {
        let rows = std::mem::take(&mut self.relay.rows);
        for row in rows {
            for endpoint in row.first..row.first + row.endpoints {
                self.fan_out_to(endpoint, &row);
            }
        }
        self.send();
        self.claim();
    }

    fn fan_out_to(&mut self, endpoint: u32, row: &Row) {
        let delivery = self.deliveries.len() as u32;
        self.deliveries.push(Delivery::new(endpoint, row.emitted));
        let closed = self.circuits[endpoint as usize].state == State::Closed;
        if closed && !(self.setup.parts.behind && self.release.is_behind(endpoint)) {
            let tenant = outbox::name(self.tenant(endpoint));
            self.relay.outgoing.push(&tenant, delivery, 1_000);
        } else {
            self.group(endpoint).written_held += 1;
            let now = self.clock.now();
            self.release.hold(endpoint, delivery, now);
        }
    }

    /// Publishes the next ones in turn, as many as may be under way.
    pub fn send(&mut self) {
        if self.relay.writes {
            return;
        }
        let nearly_empty = self.setup.parts.nearly_empty;
        let free = self.relay.estimate <= nearly_empty;
        let nothing = self.relay.outgoing.is_empty();
        if !free || (nothing && self.relay.estimate > nearly_empty / 2) {
            self.look_soon();
        }
        if nothing || !free {
            return;
        }
        let most = CHUNK.min(UNCONFIRMED - self.relay.under_way);
        let messages: Vec<u32> = std::iter::from_fn(|| self.relay.outgoing.pop()).take(most).collect();
        if messages.is_empty() {
            return;
        }
        self.relay.under_way += messages.len();
        self.relay.estimate += messages.len();
        self.relay.writes = true;
        let written = PER_MESSAGE * messages.len() as u64;
        self.clock.after(written + CONFIRM, Event::Confirmed { messages: messages.len() });
        self.clock.after(written, Event::Send);
        self.publish(FIRST, messages);
        if self.relay.waits {
            self.relay.waits = false;
            self.clock.after(0, Event::Claim);
        }
    }

    /// The chunk is written.
    pub fn written(&mut self) {
        self.relay.writes = false;
        self.send();
    }

    fn look_soon(&mut self) {
        if !self.relay.looks {
            self.relay.looks = true;
            self.clock.after(LOOK_AGAIN, Event::Look);
        }
    }

    pub fn look(&mut self) {
        self.relay.looks = false;
        self.relay.estimate = self.broker.ready(FIRST);
        self.send();
    }

    pub fn confirmed(&mut self, messages: usize) {
        self.relay.under_way -= messages;
        self.send();
    }
}
