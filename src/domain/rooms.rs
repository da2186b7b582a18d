//! The two rooms of a lane, and whose turn it is: which of the deliveries that a worker has at hand may be sent now.
//!
//! A prompt request needs a seat of the *prompt room*. It is small, so a request there competes with few others for the
//! processor, and it turns over fast: a request that becomes old moves to the *slow room*, which is large, and which also
//! takes the requests of endpoints that are known to be slow. So endpoints that hang fill the slow room, and others never
//! notice. Free seats of the prompt room go to the tenants that wait, in turn.
//!
//! Nothing here knows time: the caller says when a request has become old.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// A request that is open for longer than this is slow, and so is an endpoint that usually takes longer. Well above the time
/// that a full prompt room takes to turn over on a busy machine, or a burst would make its own endpoints slow.
pub const SLOW_MS: u64 = 100;

/// Requests open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub prompt: usize,
    pub slow: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Prompt,
    Slow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seat(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    /// Begin now.
    Begin(Seat),
    /// Begin when one of the other calls returns this seat.
    Wait(Seat),
    /// The slow room is full.
    Full,
}

/// The rooms of one lane. `T` names a tenant. Every seat that was given must be given up with `leave`.
#[derive(Debug)]
pub struct Rooms<T> {
    sizes: Sizes,
    seats: HashMap<Seat, Place<T>>,
    used: Sizes,
    tenants: HashMap<T, Tenant>,
    /// The tenants that wait for the prompt room, whose turn it is first.
    turns: BTreeMap<Turn, T>,
    /// Old requests that found no space in the slow room, oldest first. Some may have ended since.
    overdue: VecDeque<Seat>,
    /// Deliveries that wait for the slow room. Some may have been given up since.
    queued: VecDeque<Seat>,
    next_seat: u64,
    clock: u64,
}

#[derive(Debug)]
struct Place<T> {
    tenant: T,
    room: Room,
    open: bool,
}

/// Requests of the tenant in the prompt room, then when it was served last.
type Turn = (usize, u64);

#[derive(Debug, Default)]
struct Tenant {
    in_room: usize,
    served: u64,
    waiting: VecDeque<Seat>,
}

impl Tenant {
    fn turn(&self) -> Turn {
        (self.in_room, self.served)
    }
}

impl<T: Clone + Eq + Hash> Rooms<T> {
    pub fn new(sizes: Sizes) -> Rooms<T> {
        Rooms {
            sizes,
            seats: HashMap::new(),
            used: Sizes { prompt: 0, slow: 0 },
            tenants: HashMap::new(),
            turns: BTreeMap::new(),
            overdue: VecDeque::new(),
            queued: VecDeque::new(),
            next_seat: 0,
            clock: 0,
        }
    }

    /// Asks for a seat. `may_wait`: whether it waits where the slow room is full; for the prompt room everybody does.
    pub fn enter(&mut self, tenant: T, room: Room, may_wait: bool) -> Entry {
        let seat = Seat(self.next_seat);
        self.next_seat += 1;
        let free = match room {
            Room::Prompt => self.used.prompt < self.sizes.prompt,
            Room::Slow => self.used.slow < self.sizes.slow,
        };
        if room == Room::Slow && !free && !may_wait {
            return Entry::Full;
        }
        self.seats.insert(seat, Place { tenant: tenant.clone(), room, open: false });
        match (free, room) {
            (true, Room::Prompt) => self.open_prompt(seat, &tenant),
            (true, Room::Slow) => self.open_slow(seat),
            (false, Room::Prompt) => self.line_up(seat, tenant),
            (false, Room::Slow) => self.queued.push_back(seat),
        }
        if free { Entry::Begin(seat) } else { Entry::Wait(seat) }
    }

    /// The request has become old: it goes to the slow room, as soon as there is space. Returns who may begin now.
    pub fn grew_old(&mut self, seat: Seat) -> Vec<Seat> {
        if self.seats.get(&seat).is_some_and(|place| place.open && place.room == Room::Prompt) {
            self.overdue.push_back(seat);
        }
        self.fill()
    }

    /// The request has ended, or whoever waited gives up. Returns who may begin now.
    pub fn leave(&mut self, seat: Seat) -> Vec<Seat> {
        let Some(place) = self.seats.remove(&seat) else { return Vec::new() };
        match (place.open, place.room) {
            (true, Room::Prompt) => self.close_prompt(&place.tenant),
            (true, Room::Slow) => self.used.slow -= 1,
            (false, Room::Prompt) => self.step_out(seat, &place.tenant),
            (false, Room::Slow) => {}
        }
        self.fill()
    }

    /// Rooms that shrink do so as requests end. Returns who may begin now.
    pub fn resize(&mut self, sizes: Sizes) -> Vec<Seat> {
        self.sizes = sizes;
        self.fill()
    }

    pub fn sizes(&self) -> Sizes {
        self.sizes
    }

    /// Open requests in each room.
    pub fn used(&self) -> Sizes {
        self.used
    }

    /// What is old goes first, since the prompt room needs its seat; then who waits for the slow room, then the turns.
    fn fill(&mut self) -> Vec<Seat> {
        let mut begun = Vec::new();
        while self.used.slow < self.sizes.slow {
            if let Some(seat) = self.next_overdue() {
                self.move_over(seat);
            } else if let Some(seat) = self.next_queued() {
                self.open_slow(seat);
                begun.push(seat);
            } else {
                break;
            }
        }
        while self.used.prompt < self.sizes.prompt {
            let Some((turn, tenant)) = self.turns.pop_first() else { break };
            let Some(seat) = self.tenants.get_mut(&tenant).and_then(|entry| entry.waiting.pop_front()) else {
                continue;
            };
            debug_assert_eq!(self.tenants[&tenant].turn(), turn);
            self.open_prompt(seat, &tenant);
            begun.push(seat);
        }
        begun
    }

    fn next_overdue(&mut self) -> Option<Seat> {
        let seats = &self.seats;
        let in_prompt = |seat: &Seat| seats.get(seat).is_some_and(|place| place.room == Room::Prompt);
        std::iter::from_fn(|| self.overdue.pop_front()).find(in_prompt)
    }

    fn next_queued(&mut self) -> Option<Seat> {
        let seats = &self.seats;
        std::iter::from_fn(|| self.queued.pop_front()).find(|seat| seats.contains_key(seat))
    }

    fn open_slow(&mut self, seat: Seat) {
        if let Some(place) = self.seats.get_mut(&seat) {
            place.open = true;
            self.used.slow += 1;
        }
    }

    fn move_over(&mut self, seat: Seat) {
        let Some(place) = self.seats.get_mut(&seat) else { return };
        place.room = Room::Slow;
        self.used.slow += 1;
        let tenant = place.tenant.clone();
        self.close_prompt(&tenant);
    }

    /// The tenant must not be in the turns meanwhile.
    fn open_prompt(&mut self, seat: Seat, tenant: &T) {
        if let Some(place) = self.seats.get_mut(&seat) {
            place.open = true;
        }
        self.used.prompt += 1;
        self.clock += 1;
        let clock = self.clock;
        self.change(tenant, |entry| {
            entry.in_room += 1;
            entry.served = clock;
        });
    }

    fn close_prompt(&mut self, tenant: &T) {
        self.used.prompt -= 1;
        self.change(tenant, |entry| entry.in_room -= 1);
    }

    fn line_up(&mut self, seat: Seat, tenant: T) {
        self.change(&tenant, |entry| entry.waiting.push_back(seat));
    }

    fn step_out(&mut self, seat: Seat, tenant: &T) {
        self.change(tenant, |entry| entry.waiting.retain(|waiting| *waiting != seat));
    }

    /// Changes a tenant's entry, and keeps the turns in step with it. One that is new counts as just served, so that it
    /// does not go before those that wait already.
    fn change(&mut self, tenant: &T, change: impl FnOnce(&mut Tenant)) {
        let clock = &mut self.clock;
        let entry = self.tenants.entry(tenant.clone()).or_insert_with(|| {
            *clock += 1;
            Tenant { served: *clock, ..Tenant::default() }
        });
        self.turns.remove(&entry.turn());
        change(entry);
        if !entry.waiting.is_empty() {
            self.turns.insert(entry.turn(), tenant.clone());
        } else if entry.in_room == 0 {
            self.tenants.remove(tenant);
        }
    }
}

#[cfg(test)]
#[path = "rooms_tests.rs"]
mod tests;
