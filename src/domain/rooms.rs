//! The two rooms of a lane, and whose turn it is: which of the deliveries that a worker has at hand may be sent now.
//!
//! A prompt request needs a seat of the *prompt room*. It is small, so a request there competes with few others for the
//! processor, and it turns over fast: a request that becomes old moves to the *slow room*, which is large, and which also
//! takes the requests of endpoints that are known to be slow. So endpoints that hang fill the slow room, and others never
//! notice. Endpoints that are not known may have a part of the prompt room only, since they stay there if they hang while the
//! slow room is full. Free seats of the prompt room go to the tenants that wait, in turn.
//!
//! Nothing here knows time: the caller says when a request has become old.

mod prompt_room;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use prompt_room::{Guest, PromptRoom};

/// A request that is open for longer than this is slow, and so is an endpoint that usually takes longer. Well above the time
/// that a full prompt room takes to turn over on a busy machine, or a burst would make its own endpoints slow.
pub const SLOW_MS: u64 = 100;

/// Requests open at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    pub prompt: usize,
    pub slow: usize,
}

/// Where a request begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Prompt,
    /// The prompt room, for an endpoint that is not known.
    Unknown,
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
    /// The slow room is full; and for an unknown endpoint there is no seat of the prompt room either.
    Full,
}

/// The rooms of one lane. `T` names a tenant. Every seat that was given must be given up with `leave`.
#[derive(Debug)]
pub struct Rooms<T> {
    prompt: PromptRoom<T, Seat>,
    slow: SlowRoom,
    seats: HashMap<Seat, Place<T>>,
    next_seat: u64,
}

#[derive(Debug, Default)]
struct SlowRoom {
    size: usize,
    used: usize,
    /// Old requests that found no space here, oldest first. Some may have ended since.
    overdue: VecDeque<Seat>,
    /// Deliveries that wait. Some may have been given up since.
    queued: VecDeque<Seat>,
}

#[derive(Debug)]
struct Place<T> {
    tenant: T,
    /// `None`: of the slow room.
    guest: Option<Guest>,
    open: bool,
}

impl<T: Clone + Eq + Hash> Rooms<T> {
    pub fn new(sizes: Sizes) -> Rooms<T> {
        Rooms {
            prompt: PromptRoom::new(sizes.prompt),
            slow: SlowRoom { size: sizes.slow, ..SlowRoom::default() },
            seats: HashMap::new(),
            next_seat: 0,
        }
    }

    /// Asks for a seat. `may_wait`: whether it waits where it would otherwise be `Full`.
    pub fn enter(&mut self, tenant: T, room: Room, may_wait: bool) -> Entry {
        let guest = match room {
            Room::Prompt => Some(Guest::Known),
            Room::Unknown => Some(Guest::Unknown),
            Room::Slow => None,
        };
        let slow_is_full = self.slow.used >= self.slow.size;
        let free = guest.map_or(!slow_is_full, |guest| self.prompt.is_free_for(guest));
        // With the slow room full, what is unknown may stay in the prompt room for as long.
        if !free && slow_is_full && !may_wait && room != Room::Prompt {
            return Entry::Full;
        }
        let seat = Seat(self.next_seat);
        self.next_seat += 1;
        match (guest, free) {
            (Some(guest), true) => self.prompt.open(&tenant, guest),
            (Some(guest), false) => self.prompt.line_up(seat, &tenant, guest),
            (None, true) => self.slow.used += 1,
            (None, false) => self.slow.queued.push_back(seat),
        }
        self.seats.insert(seat, Place { tenant, guest, open: free });
        if free { Entry::Begin(seat) } else { Entry::Wait(seat) }
    }

    /// The request has become old: it goes to the slow room, as soon as there is space. Returns who may begin now.
    pub fn grew_old(&mut self, seat: Seat) -> Vec<Seat> {
        if self.seats.get(&seat).is_some_and(|place| place.open && place.guest.is_some()) {
            self.slow.overdue.push_back(seat);
        }
        self.fill()
    }

    /// The request has ended, or whoever waited gives up. Returns who may begin now.
    pub fn leave(&mut self, seat: Seat) -> Vec<Seat> {
        let Some(Place { tenant, guest, open }) = self.seats.remove(&seat) else { return Vec::new() };
        match (guest, open) {
            (Some(guest), true) => self.prompt.close(&tenant, guest),
            (Some(guest), false) => self.prompt.step_out(seat, &tenant, guest),
            (None, true) => self.slow.used -= 1,
            (None, false) => {}
        }
        self.fill()
    }

    /// Rooms that shrink do so as requests end. Returns who may begin now.
    pub fn resize(&mut self, sizes: Sizes) -> Vec<Seat> {
        (self.prompt.size, self.slow.size) = (sizes.prompt, sizes.slow);
        self.fill()
    }

    pub fn sizes(&self) -> Sizes {
        Sizes { prompt: self.prompt.size, slow: self.slow.size }
    }

    /// Open requests in each room.
    pub fn used(&self) -> Sizes {
        Sizes { prompt: self.prompt.used(), slow: self.slow.used }
    }

    /// What is old goes first, since the prompt room needs its seat; then who waits for the slow room, then the turns.
    fn fill(&mut self) -> Vec<Seat> {
        let mut begun = Vec::new();
        while self.slow.used < self.slow.size {
            if let Some(seat) = self.next_overdue() {
                self.move_over(seat);
            } else if let Some(seat) = self.next_queued() {
                self.slow.used += 1;
                begun.push(seat);
            } else {
                break;
            }
        }
        begun.extend(std::iter::from_fn(|| self.prompt.let_in()));
        for seat in &begun {
            if let Some(place) = self.seats.get_mut(seat) {
                place.open = true;
            }
        }
        begun
    }

    fn next_overdue(&mut self) -> Option<Seat> {
        let seats = &self.seats;
        let in_prompt = |seat: &Seat| seats.get(seat).is_some_and(|place| place.guest.is_some());
        std::iter::from_fn(|| self.slow.overdue.pop_front()).find(in_prompt)
    }

    fn next_queued(&mut self) -> Option<Seat> {
        let seats = &self.seats;
        std::iter::from_fn(|| self.slow.queued.pop_front()).find(|seat| seats.contains_key(seat))
    }

    fn move_over(&mut self, seat: Seat) {
        let Some(place) = self.seats.get_mut(&seat) else { return };
        let Some(guest) = place.guest.take() else { return };
        self.slow.used += 1;
        self.prompt.close(&place.tenant, guest);
    }
}

#[cfg(test)]
#[path = "rooms_tests.rs"]
mod tests;
