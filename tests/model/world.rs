//! The state of the whole system around one delivery, as small as it can be: its row, the copies of its messages, the
//! dead letters, and how far each process has come between two effects.

use std::fmt;

use posthaste::domain::dead_reason::DeadReason;
use posthaste::domain::delivery::{Row, Status, Successor};

use crate::reconcile::Mark;

/// The highest attempt that a history reaches.
pub const MOST: u8 = 6;
/// What `due_in_ms` is while that time has not come.
const LATER_MS: i64 = 60_000;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Due {
    Never,
    Later,
    Now,
}

/// The row without what never changes, and with times reduced to whether they have come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Stored {
    pub status: Status,
    pub attempts: u8,
    pub base: u8,
    pub due: Due,
    pub reason: Option<DeadReason>,
}

impl Stored {
    pub fn new(row: &Row) -> Stored {
        let due = match row.due_in_ms {
            None => Due::Never,
            Some(ms) if ms > 0 => Due::Later,
            Some(_) => Due::Now,
        };
        let (attempts, base) = (row.attempts as u8, row.base_attempts as u8);
        Stored { status: row.status, attempts, base, due, reason: row.dead_reason }
    }

    pub fn row(self, max_attempts: u8) -> Row {
        let due_in_ms = match self.due {
            Due::Never => None,
            Due::Later => Some(LATER_MS),
            Due::Now => Some(0),
        };
        Row {
            status: self.status,
            attempts: self.attempts.into(),
            base_attempts: self.base.into(),
            max_attempts: max_attempts.into(),
            due_in_ms,
            dead_reason: self.reason,
        }
    }

    /// The attempt that a live message asks for.
    pub fn next(&self) -> u8 {
        self.attempts + 1
    }

    pub fn is_on_its_way(&self) -> bool {
        matches!(self.status, Status::Pending | Status::Retrying)
    }
}

/// A place in the broker where equal messages lie.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Slot {
    /// The queue of first attempts.
    Deliver { redelivered: bool },
    /// The queue of due retries.
    Retry { n: u8, redelivered: bool },
    /// A delay queue.
    Delay { n: u8 },
    /// The dead-letter queue, by the header `attempts`.
    DeadLetter { attempts: u8 },
}

impl Slot {
    fn index(self) -> u32 {
        match self {
            Slot::Deliver { redelivered } => redelivered.into(),
            Slot::Retry { n, redelivered } => 2 * u32::from(n) + u32::from(redelivered),
            Slot::Delay { n } => 2 + 2 * u32::from(MOST) + u32::from(n) - 1,
            Slot::DeadLetter { attempts } => 2 + 3 * u32::from(MOST) + u32::from(attempts),
        }
    }

    pub fn work() -> impl Iterator<Item = Slot> {
        let both = [false, true].into_iter();
        let deliver = both.clone().map(|redelivered| Slot::Deliver { redelivered });
        deliver.chain((1..=MOST).flat_map(move |n| both.clone().map(move |redelivered| Slot::Retry { n, redelivered })))
    }

    pub fn delay() -> impl Iterator<Item = Slot> {
        (1..=MOST).map(|n| Slot::Delay { n })
    }

    pub fn dead_letters() -> impl Iterator<Item = Slot> {
        (0..=MOST).map(|attempts| Slot::DeadLetter { attempts })
    }
}

/// The multiset of everything in the broker: three bits for each slot.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Broker(u128);

impl Broker {
    pub fn count(self, slot: Slot) -> u8 {
        (self.0 >> (3 * slot.index())) as u8 & 7
    }

    pub fn add(&mut self, slot: Slot) {
        assert!(self.count(slot) < 7, "more than seven copies in {slot:?}");
        self.0 += 1 << (3 * slot.index());
    }

    pub fn remove(&mut self, slot: Slot) {
        assert!(self.count(slot) > 0, "nothing in {slot:?}");
        self.0 -= 1 << (3 * slot.index());
    }

    pub fn dead_letters(self) -> u8 {
        Slot::dead_letters().map(|slot| self.count(slot)).sum()
    }

    /// Copies, anywhere in the work and delay queues, that ask for attempt `n`.
    pub fn copies(self, n: u8) -> u8 {
        let deliver = if n == 1 { self.in_deliver() } else { 0 };
        deliver + self.in_retry(n) + self.count(Slot::Delay { n })
    }

    fn in_deliver(self) -> u8 {
        self.count(Slot::Deliver { redelivered: false }) + self.count(Slot::Deliver { redelivered: true })
    }

    fn in_retry(self, n: u8) -> u8 {
        self.count(Slot::Retry { n, redelivered: false }) + self.count(Slot::Retry { n, redelivered: true })
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slots = Slot::work().chain(Slot::delay()).chain(Slot::dead_letters());
        f.debug_list().entries(slots.filter(|slot| self.count(*slot) > 0).map(|slot| (self.count(slot), slot))).finish()
    }
}

/// What an attempt came to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Answer {
    Success,
    Failure,
    Gone,
    /// It asks to wait for longer than any delay queue reaches.
    ComeBackLater,
}

impl Answer {
    pub const ALL: [Answer; 4] = [Answer::Success, Answer::Failure, Answer::Gone, Answer::ComeBackLater];
}

/// Whether an acknowledgement still reaches the broker.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Channel {
    Open,
    /// The broker has handed the message out again; this worker goes on with its copy.
    Lost,
    /// Acknowledged already, which only a broken order of effects does.
    Acknowledged,
}

/// Where a worker is: always between two effects.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Stage {
    Idle,
    /// About to read the row.
    Look,
    /// About to ask the gate and to make the request.
    Gate,
    /// About to end a message that kills workers.
    MarkDead,
    /// The answer is there; about to record it.
    Settle(Answer),
    /// The compare-and-set was lost; about to read the row again.
    Lost,
    /// Recorded; about to publish what follows.
    Publish(Next),
    /// About to acknowledge.
    Acknowledge,
}

/// What is to be published.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Next {
    Delay(u8),
    Retry(u8),
    DeadLetter(u8),
}

impl Next {
    pub fn new(successor: Successor) -> Option<Next> {
        match successor {
            Successor::Delay { attempt, .. } => Some(Next::Delay(attempt as u8)),
            Successor::Retry { attempt } => Some(Next::Retry(attempt as u8)),
            Successor::DeadLetter { attempts } => Some(Next::DeadLetter(attempts as u8)),
            Successor::Nothing => None,
        }
    }

    pub fn slot(self) -> Slot {
        match self {
            Next::Delay(n) => Slot::Delay { n },
            Next::Retry(n) => Slot::Retry { n, redelivered: false },
            Next::DeadLetter(attempts) => Slot::DeadLetter { attempts },
        }
    }
}

/// One worker with one message in hand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Worker {
    pub stage: Stage,
    pub n: u8,
    pub redelivered: bool,
    pub first: bool,
    /// It repeats a statement whose answer was lost.
    pub unsure: bool,
    pub channel: Channel,
}

impl Worker {
    pub const IDLE: Worker =
        Worker { stage: Stage::Idle, n: 0, redelivered: false, first: false, unsure: false, channel: Channel::Open };

    /// Where its message lies if the broker takes it back.
    pub fn returned(&self) -> Slot {
        match self.first {
            true => Slot::Deliver { redelivered: true },
            false => Slot::Retry { n: self.n, redelivered: true },
        }
    }

    pub fn is_idle(&self) -> bool {
        self.stage == Stage::Idle
    }

    /// It may yet make or record the attempt that its message asks for.
    pub fn is_before_record(&self) -> bool {
        matches!(self.stage, Stage::Look | Stage::Gate | Stage::MarkDead | Stage::Settle(_))
    }
}

/// How far the event's way from the outbox into the broker has come.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Batch {
    InOutbox,
    /// Moved, committed and listed.
    Listed,
    /// Published and confirmed, still listed.
    Published,
    /// The relay is gone; its batch is listed.
    Orphaned,
    /// Another relay has read what is left of the batch.
    Adopting,
    Adopted,
    Done,
    /// Published and not committed, which only a broken order of effects does.
    Early,
}

/// The relay's publish of what it has committed: a release or a reconciliation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outgoing {
    Nothing,
    Publish(u8),
    /// Published and not committed, which only a broken order of effects does.
    Early,
}

/// The command `requeue`, and the sweep of the dead-letter queue that ends it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Requeue {
    Idle,
    /// Granted and committed; about to publish this attempt.
    Publish(u8),
    /// Published and not committed, which only a broken order of effects does.
    Early,
    /// Looking through the dead letters. `kept`: the header of the dead letter that stays. `seen`: a row that was read too early.
    Sweep {
        kept: Option<u8>,
        seen: Option<Stored>,
    },
    /// About to acknowledge a dead letter.
    Drop {
        dead_letter: u8,
        kept: Option<u8>,
        seen: Option<Stored>,
    },
    /// About to publish the dead letter that was missing.
    Fill(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct World {
    pub row: Option<Stored>,
    /// The commit that made the row is not on disk yet.
    pub volatile: bool,
    pub batch: Batch,
    /// A relay that lost its session, or its row, still publishes the first attempt that it has in memory.
    pub ghost: bool,
    pub outgoing: Outgoing,
    pub broker: Broker,
    pub workers: [Worker; 2],
    pub requeue: Requeue,
    pub retry_mark: Mark,
    pub deliver_mark: Mark,
    pub enabled: bool,
    pub left: Budget,
    /// Requests whose outcome was never recorded.
    pub wasted: u8,
    /// A fault has destroyed dead letters: what the dead-letter queue holds is the next sweep's business.
    pub dead_letters_lost: bool,
}

/// How often something may happen in one history.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Budget {
    pub faults: u8,
    /// Holds of an enabled endpoint: it is busy, a cache is stale, a fault of ours.
    pub holds: u8,
    pub disables: u8,
    /// Requeues, and resends of what was delivered.
    pub requeues: u8,
    /// Retries that an operator asks for before their time. Each makes a second copy, as some faults do.
    pub early: u8,
}

impl World {
    pub fn start(left: Budget) -> World {
        World {
            row: None,
            volatile: false,
            batch: Batch::InOutbox,
            ghost: false,
            outgoing: Outgoing::Nothing,
            broker: Broker::default(),
            workers: [Worker::IDLE; 2],
            requeue: Requeue::Idle,
            retry_mark: Mark::Old,
            deliver_mark: Mark::Old,
            enabled: true,
            left,
            wasted: 0,
            dead_letters_lost: false,
        }
    }

    /// Commits a new row: markers from before say nothing about it, and whatever was committed before is on disk now.
    pub fn commit(&mut self, row: &Row) {
        self.row = Some(Stored::new(row));
        self.volatile = false;
        self.retry_mark = Mark::Old;
        self.deliver_mark = Mark::Old;
    }

    /// Copies that can still lead to a request: asking for the next attempt of a row that is on its way.
    pub fn live_copies(&self) -> u8 {
        let Some(row) = self.row.filter(Stored::is_on_its_way) else { return 0 };
        let in_hand = self.workers.iter().filter(|worker| worker.is_before_record() && worker.n == row.next());
        self.broker.copies(row.next()) + in_hand.count() as u8
    }

    /// Equal states look equal: which worker is which does not matter.
    pub fn canonical(mut self) -> World {
        for worker in &mut self.workers {
            if worker.is_idle() {
                *worker = Worker::IDLE;
            }
        }
        self.workers.sort_unstable();
        self
    }
}
