use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

fn rooms(prompt: usize, slow: usize) -> Rooms<u8> {
    Rooms::new(Sizes { prompt, slow })
}

fn begin(rooms: &mut Rooms<u8>, tenant: u8, room: Room) -> Seat {
    match rooms.enter(tenant, room, false) {
        Entry::Begin(seat) => seat,
        other => panic!("{other:?}"),
    }
}

fn wait(rooms: &mut Rooms<u8>, tenant: u8) -> Seat {
    match rooms.enter(tenant, Room::Prompt, false) {
        Entry::Wait(seat) => seat,
        other => panic!("{other:?}"),
    }
}

#[test]
fn requests_that_grow_old_make_way_for_prompt_ones_until_the_slow_room_is_full() {
    let mut rooms = rooms(2, 3);
    let old: Vec<Seat> = (0..2).map(|_| begin(&mut rooms, 1, Room::Prompt)).collect();
    let next = wait(&mut rooms, 2);
    assert_eq!(rooms.grew_old(old[0]), [next]);
    assert_eq!(rooms.grew_old(old[1]), []);
    assert_eq!(rooms.used(), Sizes { prompt: 1, slow: 2 });
    begin(&mut rooms, 3, Room::Slow);
    assert_eq!(rooms.enter(3, Room::Slow, false), Entry::Full);
    assert_eq!(rooms.grew_old(next), [], "no space: it keeps its slot");
    assert_eq!(rooms.used(), Sizes { prompt: 1, slow: 3 });
    assert_eq!(rooms.leave(old[0]), [], "and moves when there is space");
    assert_eq!(rooms.used(), Sizes { prompt: 0, slow: 3 });
}

#[test]
fn whoever_may_wait_for_the_slow_room_is_let_in_when_a_request_ends() {
    let mut rooms = rooms(1, 1);
    let first = begin(&mut rooms, 1, Room::Slow);
    let Entry::Wait(gives_up) = rooms.enter(2, Room::Slow, true) else { panic!() };
    let Entry::Wait(stays) = rooms.enter(3, Room::Slow, true) else { panic!() };
    assert_eq!(rooms.leave(gives_up), []);
    assert_eq!(rooms.leave(first), [stays]);
    assert_eq!(rooms.leave(stays), []);
    assert_eq!(rooms.used(), Sizes { prompt: 0, slow: 0 });
}

#[test]
fn unknown_endpoints_that_hang_keep_nobody_who_answers_out() {
    let mut rooms = rooms(4, 1);
    let hang: Vec<Seat> = (1..=3).map(|tenant| begin(&mut rooms, tenant, Room::Unknown)).collect();
    let Entry::Wait(next) = rooms.enter(4, Room::Unknown, false) else { panic!("the slow room has space") };
    let answers = begin(&mut rooms, 5, Room::Prompt);
    assert_eq!(rooms.grew_old(hang[0]), [next], "the old one moves to the slow room");
    assert_eq!(rooms.grew_old(hang[1]), []);
    assert_eq!(rooms.enter(6, Room::Unknown, false), Entry::Full);
    let Entry::Wait(retry) = rooms.enter(7, Room::Unknown, true) else { panic!("a retry waits") };
    assert_eq!(rooms.leave(answers), [], "this seat is not for those");
    let answers = begin(&mut rooms, 5, Room::Prompt);
    let waits = wait(&mut rooms, 5);
    assert_eq!(rooms.leave(answers), [waits]);
    assert_eq!(rooms.leave(next), [retry]);
    assert_eq!(rooms.used(), Sizes { prompt: 4, slow: 1 });
}

#[test]
fn free_slots_go_to_the_tenants_in_turn() {
    let mut rooms = rooms(2, 0);
    let open: Vec<Seat> = (0..2).map(|_| begin(&mut rooms, 1, Room::Prompt)).collect();
    let many: Vec<Seat> = (0..5).map(|_| wait(&mut rooms, 1)).collect();
    let (few, one) = ([wait(&mut rooms, 2), wait(&mut rooms, 2)], wait(&mut rooms, 3));
    assert_eq!(rooms.leave(open[0]), [few[0]], "it has none in the room");
    assert_eq!(rooms.leave(open[1]), [many[0]], "none of the three has any; this one was served longest ago");
    assert_eq!(rooms.leave(few[0]), [one], "and this one has never been");
    assert_eq!(rooms.leave(one), [few[1]], "before the one with many");
}

#[test]
fn of_one_tenant_who_came_first_goes_first() {
    let mut rooms = rooms(8, 0);
    let open: Vec<Seat> = (0..8).map(|_| begin(&mut rooms, 1, Room::Prompt)).collect();
    let Entry::Wait(unknown) = rooms.enter(1, Room::Unknown, true) else { panic!() };
    let known = wait(&mut rooms, 1);
    assert_eq!((rooms.leave(open[0]), rooms.leave(open[1])), (vec![unknown], vec![known]));
}

#[test]
fn rooms_grow_at_once_and_shrink_as_requests_end() {
    let mut rooms = rooms(1, 1);
    let first = begin(&mut rooms, 1, Room::Prompt);
    let second = wait(&mut rooms, 1);
    assert_eq!(rooms.resize(Sizes { prompt: 2, slow: 1 }), [second]);
    let third = wait(&mut rooms, 1);
    assert_eq!(rooms.resize(Sizes { prompt: 1, slow: 1 }), []);
    assert_eq!(rooms.leave(first), [], "one is open, and one may be");
    assert_eq!(rooms.leave(second), [third]);
}

/// What the test knows of the rooms that it drives.
#[derive(Default)]
struct Books {
    open: BTreeSet<Seat>,
    /// For the prompt room.
    waiting: BTreeMap<Seat, Room>,
}

impl Books {
    fn begun(&mut self, seats: Vec<Seat>) {
        for seat in seats {
            self.waiting.remove(&seat);
            assert!(self.open.insert(seat), "{seat:?} begins twice");
        }
    }
}

proptest! {
    /// Whatever begins, grows old, ends and gives up in whatever order: neither room holds more than its size, nor do unknown
    /// endpoints have more than their part of it, whoever can begin does, and nobody is forgotten.
    #[test]
    fn sizes_hold_and_no_free_slot_is_left_while_somebody_waits(
        prompt in 1usize..9, slow in 0usize..5, steps in prop::collection::vec((0u8..7, 0u8..4, any::<prop::sample::Index>()), 1..200),
    ) {
        let mut rooms = rooms(prompt, slow);
        let (mut books, mut slow_waiting) = (Books::default(), BTreeSet::new());
        for (step, tenant, which) in steps {
            match step {
                0..=3 => {
                    let room = [Room::Prompt, Room::Prompt, Room::Slow, Room::Unknown][usize::from(step)];
                    let before = rooms.used();
                    match rooms.enter(tenant, room, tenant == 0) {
                        Entry::Begin(seat) => { books.open.insert(seat); }
                        Entry::Wait(seat) if room == Room::Slow => { slow_waiting.insert(seat); }
                        Entry::Wait(seat) => { books.waiting.insert(seat, room); }
                        Entry::Full => prop_assert!(before.slow == slow && room != Room::Prompt && tenant != 0),
                    }
                }
                4 if !books.open.is_empty() => {
                    let seat = *which.get(&books.open.iter().copied().collect::<Vec<_>>());
                    books.begun(rooms.grew_old(seat));
                }
                5 if !books.open.is_empty() => {
                    let seat = *which.get(&books.open.iter().copied().collect::<Vec<_>>());
                    books.open.remove(&seat);
                    books.begun(rooms.leave(seat));
                }
                6 if !books.waiting.is_empty() => {
                    let seat = *which.get(&books.waiting.keys().copied().collect::<Vec<_>>());
                    books.waiting.remove(&seat);
                    books.begun(rooms.leave(seat));
                }
                _ => {}
            }
            slow_waiting.retain(|seat| !books.open.contains(seat));
            let used = rooms.used();
            prop_assert!(used.prompt <= prompt && used.slow <= slow);
            prop_assert_eq!(used.prompt + used.slow, books.open.len());
            let waits = |room| books.waiting.values().any(|waiting| *waiting == room);
            prop_assert!(!waits(Room::Prompt) || used.prompt == prompt, "a slot is free and somebody waits");
            let (open, part) = (rooms.prompt.unknown, (prompt * 7 / 8).max(1));
            prop_assert!(open <= part, "{open} unknown ones are in the prompt room");
            prop_assert!(!waits(Room::Unknown) || used.prompt == prompt || open == part, "a slot is free and somebody waits");
            prop_assert!(slow_waiting.is_empty() || used.slow == slow, "there is space and somebody waits");
        }
    }

    /// With k tenants waiting, one that has nothing in the prompt room gets one of the next k freed slots, whether the others'
    /// endpoints are known or not.
    #[test]
    fn nobody_waits_for_more_than_a_round(
        prompt in 1usize..5, others in prop::collection::vec(0u8..5, 5..60), ends in prop::collection::vec(any::<prop::sample::Index>(), 20),
    ) {
        let mut rooms = rooms(prompt, 0);
        let (mut open, mut waiting) = (Vec::new(), BTreeSet::new());
        for tenant in others {
            let room = if tenant % 2 == 0 { Room::Unknown } else { Room::Prompt };
            match rooms.enter(tenant, room, true) {
                Entry::Begin(seat) => open.push(seat),
                Entry::Wait(_) => { waiting.insert(tenant); }
                Entry::Full => unreachable!(),
            }
        }
        prop_assume!(!waiting.is_empty() && rooms.used().prompt == prompt);
        let mine = wait(&mut rooms, 9);
        let tenants = waiting.len() + 1;
        for (freed, end) in ends.into_iter().enumerate() {
            let seat = open.swap_remove(end.index(open.len()));
            let begun = rooms.leave(seat);
            if begun.contains(&mine) {
                return Ok(());
            }
            prop_assert!(freed + 1 < tenants, "{freed} slots went to others");
            open.extend(begun);
        }
    }
}
