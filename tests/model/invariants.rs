//! What must hold in every state, at every step, and where the system comes to rest.

use posthaste::domain::dead_reason::DeadReason;
use posthaste::domain::delivery::Status;

use crate::checker::{Model, Move, Who};
use crate::world::{Due, MOST, Slot, Stored, World};

type Checked = Result<(), String>;

fn require(holds: bool, rule: &str) -> Checked {
    if holds { Ok(()) } else { Err(rule.to_owned()) }
}

/// Faults, and early retries: what may double a copy.
fn used(model: &Model, world: &World) -> u8 {
    let budget = model.scenario.budget;
    budget.faults - world.left.faults + budget.early - world.left.early
}

/// In every state.
pub fn state(model: &Model, world: &World) -> Checked {
    let faults = used(model, world);
    require(world.live_copies() <= 1 + faults, "a second chain: more live copies than one and one for each fault")?;
    require(world.wasted <= 2 * faults, "more than two wasted requests for each fault")?;
    let Some(row) = world.row else { return Ok(()) };
    let asked_for_by_nobody = (row.next() + 1..=MOST).any(|n| world.broker.copies(n) > 0);
    require(!asked_for_by_nobody, "a message asks for an attempt that nobody can have asked for")?;
    require(row.attempts <= row.base + model.scenario.max_attempts, "more attempts than allowed")?;
    require(
        row.due == Due::Never || !matches!(row.status, Status::Delivered | Status::Dead),
        "a finished delivery is due",
    )?;
    require((row.status == Status::Dead) == row.reason.is_some(), "a death without a reason, or the reverse")
}

/// At every step.
pub fn step(model: &Model, before: &World, taken: &Move) -> Checked {
    let (Some(old), Some(new)) = (before.row, taken.world.row) else {
        let by_database = before.row.is_none() || taken.who == Who::Database;
        return require(by_database, "the row is gone");
    };
    if old == new {
        return Ok(());
    }
    if let Some(n) = taken.by_message {
        require(n == old.next(), "a stale message changed the row")?;
    }
    require(new.attempts == old.attempts || new.attempts == old.attempts + 1, "attempts must grow one by one")?;
    require(new.base >= old.base, "the base of attempts only grows")?;
    let is_resent = taken.who == Who::Requeue && new.base == old.attempts;
    require(old.status != Status::Delivered || is_resent, "delivered became something else without a resend")?;
    require(!rose_again(&old, &new, taken), "dead came back without a requeue or a success")?;
    let exhausted = new.reason == Some(DeadReason::Exhausted) && old.status != Status::Dead;
    let made = new.attempts - new.base;
    require(!exhausted || made == model.scenario.max_attempts, "exhausted before every attempt was made")
}

fn rose_again(old: &Stored, new: &Stored, taken: &Move) -> bool {
    old.status == Status::Dead
        && !matches!(new.status, Status::Dead | Status::Delivered)
        && !matches!(taken.who, Who::Requeue)
}

/// Where nothing moves any more unless somebody chooses to.
pub fn rest(model: &Model, world: &World) -> Checked {
    let Some(row) = world.row else { return Err("the event is not recorded".into()) };
    let parked = row.status == Status::Held && !world.enabled;
    require(parked || matches!(row.status, Status::Delivered | Status::Dead), "the row is stuck")?;
    let nothing_left = Slot::work().chain(Slot::delay()).all(|slot| world.broker.count(slot) == 0);
    require(nothing_left, "a message is left in a work queue")?;
    let dead = row.status == Status::Dead;
    require(
        !dead || world.dead_letters_lost || has_dead_letter(world, &row),
        "dead without a dead letter of this death",
    )?;
    if used(model, world) == 0 {
        let all = world.broker.dead_letters();
        require(all == u8::from(dead), "a calm run leaves one dead letter for each dead delivery and no other")?;
        require(world.wasted == 0, "a calm run makes one request for each attempt")?;
    }
    Ok(())
}

/// A copy that outlives a poisoned delivery may still record its attempt: then the dead letter tells of one attempt less,
/// until the next sweep.
fn has_dead_letter(world: &World, row: &Stored) -> bool {
    let oldest = if row.reason == Some(DeadReason::Poison) { row.base } else { row.attempts };
    (oldest..=row.attempts).any(|attempts| world.broker.count(Slot::DeadLetter { attempts }) > 0)
}
