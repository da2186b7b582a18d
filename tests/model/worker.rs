//! A worker's steps, in the order of the code: receive, read the row, gate, request, settle, publish, acknowledge.

use posthaste::domain::dead_reason::DeadReason;
use posthaste::domain::delivery::{Received, Row, Step, Successor};
use posthaste::domain::poison::SUSPECT_DELIVERY_COUNT;

use crate::checker::{Model, Moves, Who};
use crate::world::{Answer, Channel, Next, Slot, Stage, Stored, Worker, World};

pub fn moves(world: &World, moves: &mut Moves<'_>) {
    for (index, worker) in world.workers.iter().enumerate() {
        match worker.stage {
            Stage::Idle => {}
            Stage::Look => look(world, index, moves),
            Stage::Gate => gate(world, index, moves),
            Stage::MarkDead => mark_dead(world, index, moves),
            Stage::Settle(answer) => settle(world, index, answer, moves),
            Stage::Lost => lost(world, index, moves),
            Stage::Publish(next) => publish(world, index, next, moves),
            Stage::Acknowledge => to(world, index, Stage::Idle, "acknowledge", moves),
        }
    }
    if let Some(index) = world.workers.iter().position(Worker::is_idle) {
        receive(world, index, moves);
    }
}

fn receive(world: &World, index: usize, moves: &mut Moves<'_>) {
    for slot in Slot::work().filter(|slot| world.broker.count(*slot) > 0) {
        let (n, redelivered, first) = match slot {
            Slot::Deliver { redelivered } => (1, redelivered, true),
            Slot::Retry { n, redelivered } => (n, redelivered, false),
            Slot::Delay { .. } | Slot::DeadLetter { .. } => continue,
        };
        let mut worker = Worker { stage: Stage::Look, n, redelivered, first, ..Worker::IDLE };
        if !received(&worker, moves.model).needs_row() {
            worker.stage = Stage::Gate;
        }
        let mut next = *world;
        next.broker.remove(slot);
        next.workers[index] = worker;
        moves.step(Who::Worker(index), "receive", next);
    }
}

fn received(worker: &Worker, model: &Model) -> Received {
    let often = if model.scenario.poison { SUSPECT_DELIVERY_COUNT } else { 1 };
    Received {
        attempt: worker.n.into(),
        redelivered: worker.redelivered,
        first: worker.first,
        delivery_count: if worker.redelivered { often } else { 0 },
    }
}

/// What it reckons with after it has tried to change the row.
fn after_try(worker: &Worker, model: &Model) -> Received {
    received(worker, model).unsure(worker.unsure && !model.rules.order.forget_lost_answers)
}

fn row(world: &World, model: &Model) -> Option<Row> {
    world.row.map(|stored| stored.row(model.scenario.max_attempts))
}

fn staged(world: &World, index: usize, stage: Stage) -> World {
    let mut next = *world;
    next.workers[index].stage = stage;
    next
}

fn to(world: &World, index: usize, stage: Stage, what: &'static str, moves: &mut Moves<'_>) {
    moves.step(Who::Worker(index), what, staged(world, index, stage));
}

/// The stage that publishes what follows, if anything does.
fn follow(world: &World, index: usize, successor: Successor, model: &Model) -> World {
    let Some(next) = Next::new(successor) else { return staged(world, index, Stage::Acknowledge) };
    let mut world = staged(world, index, Stage::Publish(next));
    if model.rules.order.acknowledge_before_publish && world.workers[index].channel == Channel::Open {
        world.workers[index].channel = Channel::Acknowledged;
    }
    world
}

fn look(world: &World, index: usize, moves: &mut Moves<'_>) {
    let model = moves.model;
    let received = after_try(&world.workers[index], model);
    let step = (model.rules.receive)(received, row(world, model).as_ref(), &model.queues);
    match step {
        // A suspect is tried or held, as the gate decides, or it has killed its workers.
        Step::Proceed if received.is_suspect() => {
            to(world, index, Stage::MarkDead, "read: poison", moves);
            to(world, index, Stage::Gate, "read: a suspect, go on", moves);
        }
        Step::Proceed => to(world, index, Stage::Gate, "read: go on", moves),
        Step::AwaitRow => to(world, index, Stage::Acknowledge, "read: no row, and patience is over", moves),
        Step::Drop(_) => to(world, index, Stage::Acknowledge, "read: nothing to do", moves),
        Step::Follow(successor) => {
            moves.step(Who::Worker(index), "read: follow the row", follow(world, index, successor, model));
        }
    }
}

fn gate(world: &World, index: usize, moves: &mut Moves<'_>) {
    let model = moves.model;
    // A cache may be a moment behind, so a request to an endpoint that was just disabled is possible.
    for answer in &model.scenario.answers {
        to(world, index, Stage::Settle(*answer), request(*answer), moves);
    }
    if !world.enabled {
        hold(world, index, 0, moves);
    } else if world.left.holds > 0 {
        let mut world = *world;
        world.left.holds -= 1;
        hold(&world, index, model.pause_ms(), moves);
    }
    if world.workers[index].channel == Channel::Lost {
        to(world, index, Stage::Idle, "notice the lost channel and give up", moves);
    }
}

fn request(answer: Answer) -> &'static str {
    match answer {
        Answer::Success => "request: success",
        Answer::Failure => "request: failure",
        Answer::Gone => "request: gone",
        Answer::ComeBackLater => "request: come back later",
    }
}

/// Commits a row that the message of this worker has brought about.
fn change(world: &World, index: usize, row: &Row) -> World {
    let mut next = *world;
    next.commit(row);
    next.workers[index] = world.workers[index];
    next
}

fn hold(world: &World, index: usize, delay_ms: u64, moves: &mut Moves<'_>) {
    let (model, n) = (moves.model, world.workers[index].n);
    match row(world, model).and_then(|row| (model.rules.hold)(&row, n.into(), delay_ms)) {
        Some(held) => {
            let next = staged(&change(world, index, &held), index, Stage::Acknowledge);
            moves.by_message(Who::Worker(index), "hold, committed", n, next);
        }
        None => to(world, index, Stage::Look, "hold: the row has moved on", moves),
    }
}

fn mark_dead(world: &World, index: usize, moves: &mut Moves<'_>) {
    let (model, n) = (moves.model, world.workers[index].n);
    match row(world, model).and_then(|row| (model.rules.mark_dead)(&row, n.into(), DeadReason::Poison)) {
        Some(dead) => {
            let next = change(world, index, &dead);
            let next = follow(&next, index, (model.rules.successor)(&dead, &model.queues), model);
            moves.by_message(Who::Worker(index), "mark_dead, committed", n, next);
        }
        None => to(world, index, Stage::Look, "mark_dead: the row has moved on", moves),
    }
}

fn settle(world: &World, index: usize, answer: Answer, moves: &mut Moves<'_>) {
    let (model, n) = (moves.model, world.workers[index].n);
    let decision = model.decision(answer, n);
    match row(world, model).and_then(|row| (model.rules.settle)(&row, n.into(), decision, None)) {
        Some(settled) => {
            let mut next = change(world, index, &settled);
            next.enabled &= answer != Answer::Gone;
            let next = follow(&next, index, (model.rules.successor)(&settled, &model.queues), model);
            moves.by_message(Who::Worker(index), "settle, committed", n, next);
        }
        None => {
            let mut next = staged(world, index, Stage::Lost);
            next.wasted += 1;
            moves.step(Who::Worker(index), "settle: lost the compare-and-set", next);
        }
    }
}

/// A lost settle never makes the request again, whatever the row says.
fn lost(world: &World, index: usize, moves: &mut Moves<'_>) {
    let model = moves.model;
    let received = after_try(&world.workers[index], model);
    match (model.rules.receive)(received, row(world, model).as_ref(), &model.queues) {
        Step::Follow(successor) if !model.rules.order.acknowledge_lost_settle => {
            moves.step(Who::Worker(index), "read again: follow the row", follow(world, index, successor, model));
        }
        _ => to(world, index, Stage::Acknowledge, "read again: nothing to do", moves),
    }
}

fn publish(world: &World, index: usize, next: Next, moves: &mut Moves<'_>) {
    let mut published = staged(world, index, Stage::Acknowledge);
    if world.workers[index].channel == Channel::Acknowledged {
        published.workers[index].stage = Stage::Idle;
    }
    published.broker.add(next.slot());
    moves.step(Who::Worker(index), "publish what follows", published);
    if world.workers[index].channel == Channel::Lost && moves.model.rules.order.give_up_publish {
        to(world, index, Stage::Idle, "cannot publish, the channel is lost: give up", moves);
    }
}

/// What a worker is about to commit is committed, and its answer is lost: it will try the same again.
pub fn answers_lost(world: &World, moves: &mut Moves<'_>) {
    let model = moves.model;
    for (index, worker) in world.workers.iter().enumerate().filter(|(_, worker)| !worker.unsure) {
        let (row, n) = (row(world, model), i32::from(worker.n));
        let changed = match worker.stage {
            Stage::Settle(answer) => {
                row.and_then(|row| (model.rules.settle)(&row, n, model.decision(answer, worker.n), None))
            }
            Stage::MarkDead => row.and_then(|row| (model.rules.mark_dead)(&row, n, DeadReason::Poison)),
            _ => continue,
        };
        let Some(changed) = changed else { continue };
        let mut next = change(world, index, &changed);
        next.workers[index].unsure = true;
        next.enabled &= worker.stage != Stage::Settle(Answer::Gone);
        moves.fault(Who::Worker(index), "commits, and the answer is lost", next);
    }
}

/// The retry waits in the row instead. Where the row has moved on, it is with somebody else.
pub fn publishes_refused(world: &World, moves: &mut Moves<'_>) {
    let model = moves.model;
    for (index, worker) in world.workers.iter().enumerate() {
        let (n, delay_ms) = match worker.stage {
            Stage::Publish(Next::Delay(n)) => (n, model.pause_ms()),
            Stage::Publish(Next::Retry(n)) => (n, 0),
            _ => continue,
        };
        let held = row(world, model).and_then(|row| (model.rules.hold)(&row, n.into(), delay_ms));
        let next = held.map_or(*world, |held| change(world, index, &held));
        moves.fault(Who::Worker(index), "cannot publish, and holds", staged(&next, index, Stage::Acknowledge));
    }
}

/// Whether a worker is about to publish the dead letter of this death.
pub fn writes_dead_letter(world: &World, row: Stored) -> bool {
    world.workers.iter().any(|worker| worker.stage == Stage::Publish(Next::DeadLetter(row.attempts)))
}
