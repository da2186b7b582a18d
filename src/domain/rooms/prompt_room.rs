//! The prompt room: its free seats go to the tenants that wait, in turn. `T` names a tenant, and `S` who waits.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// Seats that endpoints may have at once that are not known: these parts of all. Where they hang and the slow room is full, they
/// keep their seats, and the rest is for those that answer.
const UNKNOWN_PARTS: (usize, usize) = (7, 8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Guest {
    Known,
    Unknown,
}

#[derive(Debug)]
pub(super) struct PromptRoom<T, S> {
    pub size: usize,
    known: usize,
    unknown: usize,
    /// Those of a tenant's known endpoints and those of the others apart.
    tenants: HashMap<(T, Guest), Tenant<S>>,
    /// Who waits, whose turn it is first.
    known_turns: BTreeMap<Turn, T>,
    unknown_turns: BTreeMap<Turn, T>,
    clock: u64,
}

/// Requests of the tenant in the room, then when it was served last.
type Turn = (usize, u64);

#[derive(Debug)]
struct Tenant<S> {
    in_room: usize,
    served: u64,
    waiting: VecDeque<S>,
}

impl<S> Tenant<S> {
    fn turn(&self) -> Turn {
        (self.in_room, self.served)
    }
}

impl<T: Clone + Eq + Hash, S: PartialEq> PromptRoom<T, S> {
    pub fn new(size: usize) -> PromptRoom<T, S> {
        PromptRoom {
            size,
            known: 0,
            unknown: 0,
            tenants: HashMap::new(),
            known_turns: BTreeMap::new(),
            unknown_turns: BTreeMap::new(),
            clock: 0,
        }
    }

    pub fn used(&self) -> usize {
        self.known + self.unknown
    }

    pub fn is_free_for(&self, guest: Guest) -> bool {
        let (parts, of) = UNKNOWN_PARTS;
        let has_seats = guest == Guest::Known || self.unknown < (self.size * parts / of).max(1);
        self.used() < self.size && has_seats
    }

    pub fn open(&mut self, tenant: &T, guest: Guest) {
        *self.count(guest) += 1;
        self.clock += 1;
        let clock = self.clock;
        self.change(tenant, guest, |entry| {
            entry.in_room += 1;
            entry.served = clock;
        });
    }

    pub fn close(&mut self, tenant: &T, guest: Guest) {
        *self.count(guest) -= 1;
        self.change(tenant, guest, |entry| entry.in_room -= 1);
    }

    pub fn line_up(&mut self, seat: S, tenant: &T, guest: Guest) {
        self.change(tenant, guest, |entry| entry.waiting.push_back(seat));
    }

    pub fn step_out(&mut self, seat: S, tenant: &T, guest: Guest) {
        self.change(tenant, guest, |entry| entry.waiting.retain(|waiting| *waiting != seat));
    }

    /// Opens a seat for whoever's turn it is, if there is a free one.
    pub fn let_in(&mut self) -> Option<S> {
        let guest = self.next_guest()?;
        let (turn, tenant) = self.turns(guest).pop_first()?;
        let entry = self.tenants.get_mut(&(tenant.clone(), guest))?;
        debug_assert_eq!(entry.turn(), turn);
        let seat = entry.waiting.pop_front();
        self.open(&tenant, guest);
        seat
    }

    fn next_guest(&self) -> Option<Guest> {
        let first = |guest, turns: &BTreeMap<Turn, T>| {
            let (turn, _) = turns.first_key_value().filter(|_| self.is_free_for(guest))?;
            Some((*turn, guest))
        };
        let known = first(Guest::Known, &self.known_turns);
        let unknown = first(Guest::Unknown, &self.unknown_turns);
        known.into_iter().chain(unknown).min_by_key(|(turn, _)| *turn).map(|(_, guest)| guest)
    }

    fn count(&mut self, guest: Guest) -> &mut usize {
        match guest {
            Guest::Known => &mut self.known,
            Guest::Unknown => &mut self.unknown,
        }
    }

    fn turns(&mut self, guest: Guest) -> &mut BTreeMap<Turn, T> {
        match guest {
            Guest::Known => &mut self.known_turns,
            Guest::Unknown => &mut self.unknown_turns,
        }
    }

    /// Changes a tenant's entry, and keeps the turns in step with it. One that is new counts as just served, so that it
    /// does not go before those that wait already.
    fn change(&mut self, tenant: &T, guest: Guest, change: impl FnOnce(&mut Tenant<S>)) {
        let clock = &mut self.clock;
        let entry = self.tenants.entry((tenant.clone(), guest)).or_insert_with(|| {
            *clock += 1;
            Tenant { in_room: 0, served: *clock, waiting: VecDeque::new() }
        });
        let before = entry.turn();
        change(entry);
        let (turn, waits, is_gone) = (entry.turn(), !entry.waiting.is_empty(), entry.in_room == 0);
        let turns = self.turns(guest);
        turns.remove(&before);
        if waits {
            turns.insert(turn, tenant.clone());
        } else if is_gone {
            self.tenants.remove(&(tenant.clone(), guest));
        }
    }
}
