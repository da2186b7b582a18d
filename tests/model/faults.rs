//! What can go wrong. Each fault costs one of the history's budget.

use crate::checker::{Moves, Who};
use crate::reconcile::{Mark, republished};
use crate::relay::{FIRST, grant, retry};
use crate::worker::{answers_lost, publishes_refused, writes_dead_letter};
use crate::world::{Batch, Broker, Channel, Due, Next, Outgoing, Requeue, Slot, Stage, Worker, World};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// A worker dies; what it held comes back.
    WorkerCrash,
    /// What a worker holds comes back, and the worker goes on with its copy.
    ChannelLost,
    /// A publish reaches the broker, its confirm does not come: it is published again.
    ConfirmLost,
    /// A delay queue's message arrives twice, and neither copy is marked as redelivered.
    DoubleExpiry,
    /// A copy of an attempt that was made long ago arrives.
    LateCopy,
    /// A statement of a worker is committed, and its answer does not come: the worker repeats it.
    AnswerLost,
    /// The broker does not take a retry: it is held instead.
    PublishRefused,
    RelayCrash,
    /// Another relay adopts the batch of one that still publishes it.
    RelaySessionLost,
    /// The database crashes before an asynchronous commit is on disk.
    DatabaseCrash,
    /// One message is gone.
    MessageLost,
    /// Everything in the broker is gone.
    BrokerWiped,
    /// Something takes longer than the slack or the grace allows.
    WrongReconcile,
    RequeueKilled,
    /// A worker takes longer than the grace to write its dead letter, and the row is requeued before.
    HastyRequeue,
}

impl Fault {
    /// So many of the first ones are of workers alone.
    pub const OF_WORKERS: usize = 7;
    pub const ALL: [Fault; 15] = [
        Fault::WorkerCrash,
        Fault::ChannelLost,
        Fault::ConfirmLost,
        Fault::DoubleExpiry,
        Fault::LateCopy,
        Fault::AnswerLost,
        Fault::PublishRefused,
        Fault::RelayCrash,
        Fault::RelaySessionLost,
        Fault::DatabaseCrash,
        Fault::MessageLost,
        Fault::BrokerWiped,
        Fault::WrongReconcile,
        Fault::RequeueKilled,
        Fault::HastyRequeue,
    ];
}

pub fn moves(world: &World, moves: &mut Moves<'_>) {
    if world.left.faults == 0 {
        return;
    }
    let mut world = *world;
    world.left.faults -= 1;
    for fault in moves.model.scenario.faults {
        match fault {
            Fault::WorkerCrash => worker_crash(&world, moves),
            Fault::ChannelLost => channel_lost(&world, moves),
            Fault::ConfirmLost => confirm_lost(&world, moves),
            Fault::DoubleExpiry => double_expiry(&world, moves),
            Fault::LateCopy => late_copy(&world, moves),
            Fault::AnswerLost => answers_lost(&world, moves),
            Fault::PublishRefused => publishes_refused(&world, moves),
            Fault::RelayCrash => relay_crash(&world, moves),
            Fault::RelaySessionLost => relay_session_lost(&world, moves),
            Fault::DatabaseCrash => database_crash(&world, moves),
            Fault::MessageLost => message_lost(&world, moves),
            Fault::BrokerWiped => moves.fault(Who::Broker, "is wiped", wiped(&world)),
            Fault::WrongReconcile => wrong_reconcile(&world, moves),
            Fault::RequeueKilled => requeue_killed(&world, moves),
            Fault::HastyRequeue => hasty_requeue(&world, moves),
        }
    }
}

fn worker_crash(world: &World, moves: &mut Moves<'_>) {
    for (index, worker) in world.workers.iter().enumerate().filter(|(_, worker)| !worker.is_idle()) {
        let mut next = *world;
        next.workers[index] = Worker::IDLE;
        if worker.channel == Channel::Open {
            next.broker.add(worker.returned());
        }
        next.wasted += u8::from(matches!(worker.stage, Stage::Settle(_)));
        next.dead_letters_lost |=
            matches!(worker.stage, Stage::Publish(Next::DeadLetter(_))) && !is_followed(&next, worker.n);
        moves.fault(Who::Worker(index), "crashes", next);
    }
}

/// Another copy will find what a dead worker did not publish. There is none when the broker had handed the message out
/// again before and that copy is done, for example because it was held: then the next sweep writes the dead letter.
fn is_followed(world: &World, n: u8) -> bool {
    let waiting = world.broker.count(Slot::Retry { n, redelivered: true }) > 0
        || (n == 1 && world.broker.count(Slot::Deliver { redelivered: true }) > 0);
    let in_hand = |worker: &Worker| {
        worker.redelivered && worker.n == n && !matches!(worker.stage, Stage::Idle | Stage::Acknowledge)
    };
    waiting || world.workers.iter().any(in_hand)
}

fn channel_lost(world: &World, moves: &mut Moves<'_>) {
    for (index, worker) in world.workers.iter().enumerate() {
        if !worker.is_idle() && worker.channel == Channel::Open {
            let mut next = *world;
            next.workers[index].channel = Channel::Lost;
            next.broker.add(worker.returned());
            moves.fault(Who::Worker(index), "loses its channel", next);
        }
    }
}

fn confirm_lost(world: &World, moves: &mut Moves<'_>) {
    let workers = world.workers.iter().filter_map(|worker| match worker.stage {
        Stage::Publish(next) => Some(next.slot()),
        _ => None,
    });
    let relay = match world.batch {
        Batch::Listed => Some(FIRST),
        Batch::Adopting => Some(retry(1)),
        _ => None,
    };
    let outgoing = match world.outgoing {
        Outgoing::Publish(n) => Some(retry(n)),
        _ => None,
    };
    let requeue = match world.requeue {
        Requeue::Publish(n) => Some(retry(n)),
        Requeue::Fill(attempts) => Some(Slot::DeadLetter { attempts }),
        _ => None,
    };
    for slot in workers.chain(relay).chain(outgoing).chain(requeue) {
        let mut next = *world;
        next.broker.add(slot);
        moves.fault(Who::Broker, "takes a message, and its confirm is lost", next);
    }
}

fn double_expiry(world: &World, moves: &mut Moves<'_>) {
    for slot in Slot::delay().filter(|slot| world.broker.count(*slot) > 0) {
        let Slot::Delay { n } = slot else { continue };
        let mut next = *world;
        next.broker.add(retry(n));
        if let Some(row) = next.row.as_mut().filter(|row| row.next() == n && row.due == Due::Later) {
            row.due = Due::Now;
        }
        moves.fault(Who::Broker, "lets a delay expire, and will again", next);
    }
}

fn late_copy(world: &World, moves: &mut Moves<'_>) {
    let Some(row) = world.row else { return };
    for n in 1..=row.attempts {
        let mut next = *world;
        next.broker.add(retry(n));
        moves.fault(Who::Broker, "has a late copy in the queue of retries", next);
    }
    if row.attempts > 0 {
        let mut next = *world;
        next.broker.add(FIRST);
        moves.fault(Who::Broker, "has a late copy in the queue of first attempts", next);
    }
}

fn relay_crash(world: &World, moves: &mut Moves<'_>) {
    let listed = matches!(world.batch, Batch::Listed | Batch::Published | Batch::Adopting | Batch::Adopted);
    if listed || world.outgoing != Outgoing::Nothing {
        let batch = if listed { Batch::Orphaned } else { world.batch };
        moves.fault(Who::Relay, "crashes", World { batch, outgoing: Outgoing::Nothing, ..*world });
    }
}

fn relay_session_lost(world: &World, moves: &mut Moves<'_>) {
    if world.batch == Batch::Listed && !world.ghost {
        moves.fault(Who::Relay, "loses its session", World { batch: Batch::Orphaned, ghost: true, ..*world });
    }
}

fn database_crash(world: &World, moves: &mut Moves<'_>) {
    if world.volatile {
        let ghost = world.ghost || matches!(world.batch, Batch::Listed | Batch::Adopting);
        let next = World { row: None, volatile: false, batch: Batch::InOutbox, ghost, ..*world };
        moves.fault(Who::Database, "crashes and loses the claim", next);
    }
}

fn message_lost(world: &World, moves: &mut Moves<'_>) {
    for slot in Slot::work().chain(Slot::delay()).filter(|slot| world.broker.count(*slot) > 0) {
        // Its redelivery could have been what wrote a dead letter.
        let mut next = World { dead_letters_lost: true, ..*world };
        next.broker.remove(slot);
        moves.fault(Who::Broker, "loses a message", next);
    }
}

fn wiped(world: &World) -> World {
    let mut next = World { broker: Broker::default(), dead_letters_lost: true, ..*world };
    for worker in next.workers.iter_mut().filter(|worker| worker.channel == Channel::Open) {
        worker.channel = Channel::Lost;
    }
    // A marker that was in a queue is gone with it; the relay publishes another.
    for mark in [&mut next.retry_mark, &mut next.deliver_mark] {
        if *mark == Mark::Published {
            *mark = Mark::Old;
        }
    }
    // The sweep's channel is gone, and the dead letters that it held: it fails.
    if matches!(next.requeue, Requeue::Sweep { .. } | Requeue::Drop { .. }) {
        next.requeue = Requeue::Idle;
    }
    next
}

fn wrong_reconcile(world: &World, moves: &mut Moves<'_>) {
    let stored = world.row.filter(|row| row.is_on_its_way() && row.due == Due::Now);
    if let (Some(stored), Outgoing::Nothing) = (stored, world.outgoing) {
        let row = stored.row(moves.model.scenario.max_attempts);
        moves.fault(Who::Relay, "reconciles what is not lost", republished(world, &row));
    }
}

fn requeue_killed(world: &World, moves: &mut Moves<'_>) {
    if world.requeue != Requeue::Idle {
        moves.fault(Who::Requeue, "is killed", World { requeue: Requeue::Idle, ..*world });
    }
}

fn hasty_requeue(world: &World, moves: &mut Moves<'_>) {
    if world.row.is_some_and(|row| writes_dead_letter(world, row))
        && world.requeue == Requeue::Idle
        && world.left.requeues > 0
    {
        let mut next = *world;
        next.left.requeues -= 1;
        let next = grant(&next, moves.model.rules.requeue, moves);
        moves.fault(Who::Requeue, "starts before the dead letter is written", next);
    }
}
