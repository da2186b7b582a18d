//! When the broker has lost a message: the rule, and how far the markers of each work queue have come.
//!
//! Queues are first in, first out. What was due before a marker was published, and is still unfinished a grace after that
//! marker was recorded, is no longer in the queue.

use std::time::Duration;

use posthaste::domain::delivery::{Row, Status};
use posthaste::domain::reconcile;

use crate::checker::{Moves, Who};
use crate::world::{Due, Next, Outgoing, Requeue, Slot, Stage, Stored, Worker, World};

/// A marker's times, in milliseconds of the database's clock.
#[derive(Clone, Copy, Debug)]
pub struct Marker {
    pub published_at: i64,
    pub recorded_at: Option<i64>,
}

/// All that the rule looks at.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    pub row: &'a Row,
    pub due_at: i64,
    pub retry: Marker,
    pub deliver: Marker,
    pub now: i64,
    /// Longer than a worker may hold a message unacknowledged.
    pub grace: i64,
}

/// The row says that a message should be in a work queue, and the project's own rule says that none is.
pub fn is_lost(evidence: &Evidence<'_>) -> bool {
    let on_its_way = matches!(evidence.row.status, Status::Pending | Status::Retrying);
    let proof = |marker: Marker| {
        let recorded: Vec<reconcile::Marker> = marker
            .recorded_at
            .map(|recorded_ms| reconcile::Marker { published_ms: marker.published_at, recorded_ms })
            .into_iter()
            .collect();
        reconcile::proof(&recorded, evidence.now, Duration::from_millis(evidence.grace as u64))
    };
    let (retry, deliver) = (proof(evidence.retry), proof(evidence.deliver));
    on_its_way && reconcile::is_lost(evidence.row.attempts, evidence.due_at, retry, deliver)
}

/// The newest marker of one queue, as far as it matters for the row's present due time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Mark {
    /// Published before the row was due; recorded long ago.
    Old,
    /// Published after the row was due.
    Published,
    Recorded,
    /// Recorded longer ago than the grace.
    Ripe,
}

/// Covers the way from commit to publish, and late expiry.
const SLACK: i64 = reconcile::SLACK.as_millis() as i64;
const NOW: i64 = SLACK + 1_000;
const GRACE: i64 = 100;

impl Mark {
    fn marker(self) -> Marker {
        let (published_at, recorded_at) = match self {
            Mark::Old => (-300, Some(-200)),
            Mark::Published => (SLACK + 1, None),
            Mark::Recorded => (SLACK + 1, Some(NOW - GRACE + 1)),
            Mark::Ripe => (SLACK + 1, Some(NOW - GRACE)),
        };
        Marker { published_at, recorded_at }
    }
}

pub fn evidence<'a>(world: &World, row: &'a Row) -> Evidence<'a> {
    Evidence {
        row,
        due_at: if row.due_in_ms == Some(0) { 0 } else { NOW + 60_000 },
        retry: world.retry_mark.marker(),
        deliver: world.deliver_mark.marker(),
        now: NOW,
        grace: GRACE,
    }
}

/// How finely markers are explored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Markers {
    None,
    /// Markers prove a loss in one step, as soon as they can. What they do in between changes nothing else.
    Coarse,
    /// Each marker is published, recorded and grows old on its own.
    Fine,
}

/// The relay publishes and workers record markers; where they prove a loss, the relay publishes the message again.
pub fn moves(world: &World, moves: &mut Moves<'_>) {
    let Some(stored) = world.row else { return };
    let world = match moves.model.scenario.markers {
        Markers::None => return,
        Markers::Coarse => &ripened(world, stored),
        Markers::Fine => world,
    };
    if moves.model.scenario.markers == Markers::Fine {
        for deliver in [false, true] {
            let mut next = *world;
            let mark = if deliver { &mut next.deliver_mark } else { &mut next.retry_mark };
            if let Some(advanced) = advance(world, stored, *mark, deliver) {
                *mark = advanced;
                moves.step(Who::Relay, "a marker comes on", next);
            }
        }
    }
    let row = stored.row(moves.model.scenario.max_attempts);
    if world.outgoing == Outgoing::Nothing && (moves.model.rules.is_lost)(&evidence(world, &row)) {
        moves.step(Who::Relay, "reconcile: due again, committed", republished(world, &row));
    }
}

/// Both markers as old as they can get, alone.
fn ripened(world: &World, row: Stored) -> World {
    let mut next = *world;
    while let Some(mark) = advance(&next, row, next.retry_mark, false) {
        next.retry_mark = mark;
    }
    while let Some(mark) = advance(&next, row, next.deliver_mark, true) {
        next.deliver_mark = mark;
    }
    next
}

/// Changes neither attempts nor anything else: the copy that was thought lost may still come.
pub fn republished(world: &World, row: &Row) -> World {
    let mut next = *world;
    next.commit(&Row { due_in_ms: Some(0), ..*row });
    next.outgoing = Outgoing::Publish(row.attempts as u8 + 1);
    next
}

/// The next state of a queue's marker, where the order of the queue, the slack and the grace allow it.
fn advance(world: &World, row: Stored, mark: Mark, deliver: bool) -> Option<Mark> {
    let n = row.next();
    let slot = |redelivered| if deliver { Slot::Deliver { redelivered } } else { Slot::Retry { n, redelivered } };
    let is_here = |redelivered| (!deliver || n == 1) && world.broker.count(slot(redelivered)) > 0;
    let in_hand = |worker: &Worker| worker.is_before_record() && worker.n == n && worker.first == deliver;
    match mark {
        // Within the slack the message is in the work queue, unless it is lost.
        Mark::Old if row.is_on_its_way() && row.due == Due::Now && !is_being_published(world, n) => {
            Some(Mark::Published)
        }
        // Whoever receives the marker has received what was ahead of it.
        Mark::Published if !is_here(false) => Some(Mark::Recorded),
        // Within the grace whoever had received it has finished with it, or it came back and the next one has.
        Mark::Recorded if !is_here(true) && !world.workers.iter().any(in_hand) => Some(Mark::Ripe),
        _ => None,
    }
}

fn is_being_published(world: &World, n: u8) -> bool {
    use crate::world::Batch::{Adopting, Listed, Orphaned};
    let by_worker = |stage| matches!(stage, Stage::Publish(Next::Delay(m) | Next::Retry(m)) if m == n);
    world.broker.count(Slot::Delay { n }) > 0
        || world.workers.iter().any(|worker| by_worker(worker.stage))
        || world.outgoing == Outgoing::Publish(n)
        || world.requeue == Requeue::Publish(n)
        || (n == 1 && (world.ghost || matches!(world.batch, Listed | Orphaned | Adopting)))
}
