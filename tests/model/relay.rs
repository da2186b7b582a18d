//! The relay (claim, publish, adopt, release), the passing of time, an operator's choices, and `requeue`.

use posthaste::domain::delivery::{Row, Status};

use crate::checker::{Moves, Who};
use crate::sweep::Action;
use crate::worker::writes_dead_letter;
use crate::world::{Batch, Due, Outgoing, Requeue, Slot, Stored, World};

pub const FIRST: Slot = Slot::Deliver { redelivered: false };

pub fn retry(n: u8) -> Slot {
    Slot::Retry { n, redelivered: false }
}

pub fn moves(world: &World, moves: &mut Moves<'_>) {
    batch(world, moves);
    outgoing(world, moves);
    release(world, moves);
    time(world, moves);
    choices(world, moves);
    requeue(world, moves);
}

fn step(world: World, what: &'static str, moves: &mut Moves<'_>) {
    moves.step(Who::Relay, what, world);
}

/// The row as the claim makes it.
fn fan_out(world: &World) -> Stored {
    let status = if world.enabled { Status::Pending } else { Status::Held };
    Stored { status, attempts: 0, base: 0, due: Due::Now, reason: None }
}

/// Commit, publish, unlist; a batch whose relay is gone is adopted.
fn batch(world: &World, moves: &mut Moves<'_>) {
    let mut next = *world;
    match world.batch {
        Batch::InOutbox if moves.model.rules.order.relay_publishes_before_commit => {
            next.batch = Batch::Early;
            next.broker.add(FIRST);
            step(next, "publish before the claim is committed", moves);
        }
        Batch::InOutbox | Batch::Early => {
            let row = fan_out(world);
            next.row = Some(row);
            next.volatile = true;
            next.batch = match (row.status, world.batch) {
                // What is held at fan-out is not published, so nothing is listed.
                (Status::Held, _) => Batch::Done,
                (_, Batch::Early) => Batch::Published,
                _ => Batch::Listed,
            };
            step(next, "claim, committed", moves);
        }
        Batch::Listed => {
            next.batch = Batch::Published;
            next.broker.add(FIRST);
            step(next, "publish the first attempt", moves);
        }
        Batch::Orphaned => {
            let unfinished = world.row.is_some_and(|row| row.status == Status::Pending && row.attempts == 0);
            next.batch = if unfinished { Batch::Adopting } else { Batch::Done };
            step(next, "adopt: read what is unfinished", moves);
        }
        Batch::Adopting => {
            next.batch = Batch::Adopted;
            next.broker.add(retry(1));
            step(next, "publish what was adopted", moves);
        }
        Batch::Published | Batch::Adopted => {
            next.batch = Batch::Done;
            step(next, "unlist the batch", moves);
        }
        Batch::Done => {}
    }
    if world.ghost {
        let mut next = World { ghost: false, ..*world };
        next.broker.add(FIRST);
        step(next, "a relay without a session publishes the first attempt", moves);
    }
}

fn outgoing(world: &World, moves: &mut Moves<'_>) {
    let mut next = World { outgoing: Outgoing::Nothing, ..*world };
    match world.outgoing {
        Outgoing::Nothing => {}
        Outgoing::Publish(n) => {
            next.broker.add(retry(n));
            step(next, "publish what was released or reconciled", moves);
        }
        Outgoing::Early => {
            if let Some(row) = released(world, moves) {
                next.commit(&row);
            }
            step(next, "release, committed late", moves);
        }
    }
}

fn released(world: &World, moves: &Moves<'_>) -> Option<Row> {
    let row = world.row.filter(|row| row.due == Due::Now)?.row(moves.model.scenario.max_attempts);
    (moves.model.rules.release)(&row)
}

/// A scan by state: whatever is held, may go and is due.
fn release(world: &World, moves: &mut Moves<'_>) {
    let order = moves.model.rules.order;
    if !world.enabled || world.outgoing != Outgoing::Nothing || order.release_when_enabled_only {
        return;
    }
    let Some(row) = released(world, moves) else { return };
    let mut next = *world;
    if order.release_publishes_before_commit {
        next.outgoing = Outgoing::Early;
        next.broker.add(retry(row.attempts as u8 + 1));
        step(next, "publish before the release is committed", moves);
    } else {
        next.commit(&row);
        next.outgoing = Outgoing::Publish(row.attempts as u8 + 1);
        step(next, "release, committed", moves);
    }
}

fn time(world: &World, moves: &mut Moves<'_>) {
    let due = |world: &World| {
        let row = world.row.map(|row| if row.due == Due::Later { Stored { due: Due::Now, ..row } } else { row });
        World { row, ..*world }
    };
    if world.row.is_some_and(|row| row.due == Due::Later) {
        moves.step(Who::Time, "the row is due", due(world));
    }
    for n in 1..=crate::world::MOST {
        if world.broker.count(Slot::Delay { n }) > 0 {
            let live = world.row.is_some_and(|row| row.next() == n);
            let mut next = if live { due(world) } else { *world };
            next.broker.remove(Slot::Delay { n });
            next.broker.add(retry(n));
            moves.step(Who::Time, "a delay expires", next);
        }
    }
}

fn choices(world: &World, moves: &mut Moves<'_>) {
    if world.enabled && world.left.disables > 0 {
        let mut next = World { enabled: false, ..*world };
        next.left.disables -= 1;
        moves.choice(Who::Operator, "disable the endpoint", next);
    }
    if !world.enabled {
        let mut next = World { enabled: true, ..*world };
        if moves.model.rules.order.release_when_enabled_only
            && let Some(row) = released(world, moves)
        {
            next.commit(&row);
            next.outgoing = Outgoing::Publish(row.attempts as u8 + 1);
        }
        moves.choice(Who::Operator, "enable the endpoint", next);
    }
    retry_now(world, moves);
    let Some(row) = world.row.filter(|_| world.requeue == Requeue::Idle && world.left.requeues > 0) else { return };
    // What died within the grace is left alone: its worker may still be writing the dead letter.
    if row.status != Status::Dead || !writes_dead_letter(world, row) {
        start_requeue(world, moves);
    }
    if row.status == Status::Delivered {
        let mut next = *world;
        next.left.requeues -= 1;
        let next = grant(&next, moves.model.rules.resend, moves);
        moves.choice(Who::Requeue, "start a resend", next);
    }
}

/// What waits is due now, at an operator's wish, and published as what is released.
fn retry_now(world: &World, moves: &mut Moves<'_>) {
    if world.left.early == 0 || world.outgoing != Outgoing::Nothing {
        return;
    }
    let row = world.row.map(|row| row.row(moves.model.scenario.max_attempts));
    let Some(early) = row.and_then(|row| (moves.model.rules.retry_now)(&row)) else { return };
    let mut next = *world;
    next.left.early -= 1;
    if early.status == Status::Pending && world.enabled {
        next.commit(&early);
        next.outgoing = Outgoing::Publish(early.attempts as u8 + 1);
    } else {
        next.commit(&Row { status: Status::Held, ..early });
    }
    moves.choice(Who::Operator, "retry before its time, committed", next);
}

fn start_requeue(world: &World, moves: &mut Moves<'_>) {
    let mut next = *world;
    next.left.requeues -= 1;
    moves.choice(Who::Requeue, "start", grant(&next, moves.model.rules.requeue, moves));
}

/// Grants and commits; with nothing to grant, only the sweep is left to do.
pub fn grant(world: &World, rule: fn(&Row) -> Option<Row>, moves: &Moves<'_>) -> World {
    let row = world.row.map(|row| row.row(moves.model.scenario.max_attempts));
    let mut next = *world;
    match row.and_then(|row| rule(&row)) {
        Some(_) if moves.model.rules.order.requeue_publishes_before_commit => {
            next.broker.add(retry(world.row.map_or(1, |row| row.next())));
            next.requeue = Requeue::Early;
        }
        // As a claim does it: the release owns what its endpoint cannot get now.
        Some(granted) if !world.enabled => {
            next.commit(&Row { status: Status::Held, ..granted });
            next.requeue = sweep(&next, moves);
        }
        Some(granted) => {
            next.commit(&granted);
            next.requeue = Requeue::Publish(granted.attempts as u8 + 1);
        }
        None => next.requeue = sweep(world, moves),
    }
    next
}

fn sweep(world: &World, moves: &Moves<'_>) -> Requeue {
    Requeue::Sweep { kept: None, seen: world.row.filter(|_| moves.model.rules.order.sweep_reads_first) }
}

fn requeue(world: &World, moves: &mut Moves<'_>) {
    let mut next = *world;
    match world.requeue {
        Requeue::Idle => {}
        Requeue::Early => {
            let row = world.row.map(|row| row.row(moves.model.scenario.max_attempts));
            if let Some(granted) = row.and_then(|row| (moves.model.rules.requeue)(&row)) {
                next.commit(&granted);
            }
            next.requeue = sweep(world, moves);
            moves.step(Who::Requeue, "grant, committed late", next);
        }
        Requeue::Publish(n) => {
            next.broker.add(retry(n));
            next.requeue = sweep(world, moves);
            moves.step(Who::Requeue, "publish what was granted", next);
        }
        Requeue::Sweep { kept, seen } => sweep_moves(world, kept, seen, moves),
        Requeue::Drop { dead_letter, kept, seen } => {
            next.broker.remove(Slot::DeadLetter { attempts: dead_letter });
            next.requeue = Requeue::Sweep { kept, seen };
            moves.step(Who::Requeue, "acknowledge a dead letter", next);
        }
        Requeue::Fill(attempts) => {
            next.broker.add(Slot::DeadLetter { attempts });
            next.requeue = Requeue::Idle;
            moves.step(Who::Requeue, "publish the missing dead letter", next);
        }
    }
}

/// Takes dead letters one by one and reads the row after each. When none is left, a missing one is written.
fn sweep_moves(world: &World, kept: Option<u8>, seen: Option<Stored>, moves: &mut Moves<'_>) {
    let row = seen.or(world.row);
    let full = row.map(|row| row.row(moves.model.scenario.max_attempts));
    let mut over = true;
    for attempts in 0..=crate::world::MOST {
        let waiting = world.broker.count(Slot::DeadLetter { attempts }) - u8::from(kept == Some(attempts));
        if waiting == 0 {
            continue;
        }
        over = false;
        let requeue = match (moves.model.rules.judge)(full.as_ref(), attempts.into(), kept.is_some()) {
            Action::Keep => Requeue::Sweep { kept: Some(attempts), seen },
            Action::Discard => Requeue::Drop { dead_letter: attempts, kept, seen },
        };
        moves.step(Who::Requeue, "take a dead letter and read the row", World { requeue, ..*world });
    }
    if over {
        let missing =
            row.filter(|row| row.status == Status::Dead && kept.is_none() && !writes_dead_letter(world, *row));
        let requeue = missing.map_or(Requeue::Idle, |row| Requeue::Fill(row.attempts));
        moves.step(Who::Requeue, "no dead letter is left", World { requeue, ..*world });
    }
}
