//! The prompt room: its free seats go to the tenants that wait, in turn. `T` names a tenant, and `S` who
//! waits, the greater the later it came.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

/// Seats that endpoints may have at once that are not known: these parts of all, and one at least. Where they hang and the slow
/// room is full, they keep their seats, and the rest is for those that answer.
const UNKNOWN_PARTS: (usize, usize) = (7, 8);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Guest {
    Known,
    Unknown,
}

#[derive(Debug)]
pub(super) struct PromptRoom<T, S> {
    pub size: usize,
    /// Open requests.
    pub known: usize,
    pub unknown: usize,
    tenants: HashMap<T, Tenant<S>>,
    /// The tenants that wait with known endpoints, and with unknown ones, whose turn it is first. A tenant may be in both.
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
    known: VecDeque<S>,
    unknown: VecDeque<S>,
}

impl<S> Tenant<S> {
    fn turn(&self) -> Turn {
        (self.in_room, self.served)
    }

    fn line(&self, guest: Guest) -> &VecDeque<S> {
        match guest {
            Guest::Known => &self.known,
            Guest::Unknown => &self.unknown,
        }
    }

    fn line_mut(&mut self, guest: Guest) -> &mut VecDeque<S> {
        match guest {
            Guest::Known => &mut self.known,
            Guest::Unknown => &mut self.unknown,
        }
    }
}

impl<T: Clone + Eq + Hash, S: Copy + Ord> PromptRoom<T, S> {
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
        self.change(tenant, |entry| {
            entry.in_room += 1;
            entry.served = clock;
        });
    }

    pub fn close(&mut self, tenant: &T, guest: Guest) {
        *self.count(guest) -= 1;
        self.change(tenant, |entry| entry.in_room -= 1);
    }

    pub fn line_up(&mut self, seat: S, tenant: &T, guest: Guest) {
        self.change(tenant, |entry| entry.line_mut(guest).push_back(seat));
    }

    pub fn step_out(&mut self, seat: S, tenant: &T, guest: Guest) {
        self.change(tenant, |entry| entry.line_mut(guest).retain(|waiting| *waiting != seat));
    }

    /// Opens a seat for whoever's turn it is, if there is a free one.
    pub fn let_in(&mut self) -> Option<S> {
        let (guest, tenant) = self.next()?;
        let mut seat = None;
        self.change(&tenant, |entry| seat = entry.line_mut(guest).pop_front());
        self.open(&tenant, guest);
        seat
    }

    /// Of a tenant whose turn it is with both kinds, who came first.
    fn next(&self) -> Option<(Guest, T)> {
        let first = |guest, turns: &BTreeMap<Turn, T>| {
            let (turn, tenant) = turns.first_key_value().filter(|_| self.is_free_for(guest))?;
            let came = self.tenants.get(tenant)?.line(guest).front().copied();
            Some(((*turn, came), guest, tenant.clone()))
        };
        let known = first(Guest::Known, &self.known_turns);
        let unknown = first(Guest::Unknown, &self.unknown_turns);
        let (_, guest, tenant) = known.into_iter().chain(unknown).min_by_key(|(order, ..)| *order)?;
        Some((guest, tenant))
    }

    fn count(&mut self, guest: Guest) -> &mut usize {
        match guest {
            Guest::Known => &mut self.known,
            Guest::Unknown => &mut self.unknown,
        }
    }

    /// Changes a tenant's entry, and keeps the turns in step with it. One that is new counts as just served, so that it
    /// does not go before those that wait already.
    fn change(&mut self, tenant: &T, change: impl FnOnce(&mut Tenant<S>)) {
        let clock = &mut self.clock;
        let entry = self.tenants.entry(tenant.clone()).or_insert_with(|| {
            *clock += 1;
            Tenant { in_room: 0, served: *clock, known: VecDeque::new(), unknown: VecDeque::new() }
        });
        let before = entry.turn();
        change(entry);
        for (line, turns) in [(&entry.known, &mut self.known_turns), (&entry.unknown, &mut self.unknown_turns)] {
            turns.remove(&before);
            if !line.is_empty() {
                turns.insert(entry.turn(), tenant.clone());
            }
        }
        if entry.in_room == 0 && entry.known.is_empty() && entry.unknown.is_empty() {
            self.tenants.remove(tenant);
        }
    }
}
