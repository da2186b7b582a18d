//! What the sweep of the dead-letter queue does with a dead letter.

use posthaste::domain::delivery::{Row, Status};

use crate::checker::{Model, Who};
use crate::world::{Batch, Broker, Requeue, Slot, Stored, World};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Keep,
    Discard,
}

/// The first dead letter of this death stays; a double, a dead letter of an older death and one whose row is not dead go.
pub fn judge(row: Option<&Row>, dead_letter_attempts: i32, already_kept: bool) -> Action {
    match row {
        Some(row) if row.status == Status::Dead && row.attempts == dead_letter_attempts && !already_kept => {
            Action::Keep
        }
        _ => Action::Discard,
    }
}

/// What the dead-letter queue may hold after a sweep while nothing else moves, from so many dead letters with the header 0, 1
/// and 2.
pub fn alone(model: &Model, row: Stored, dead_letters: [u8; 3]) -> Vec<Broker> {
    let mut world = World::start(model.scenario.budget);
    world.row = Some(row);
    world.batch = Batch::Done;
    world.requeue = Requeue::Sweep { kept: None, seen: None };
    for (attempts, count) in dead_letters.into_iter().enumerate() {
        (0..count).for_each(|_| world.broker.add(Slot::DeadLetter { attempts: attempts as u8 }));
    }
    let (mut open, mut ends, mut out) = (vec![world], Vec::new(), Vec::new());
    while let Some(world) = open.pop() {
        if world.requeue == Requeue::Idle {
            ends.push(world.broker);
            continue;
        }
        model.moves(&world, &mut out);
        open.extend(out.iter().filter(|taken| taken.who == Who::Requeue).map(|taken| taken.world));
    }
    ends
}
