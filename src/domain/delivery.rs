//! One delivery: its states, what a message about it may do, and what settling an attempt does to its row.
//!
//! A message says "please make attempt n". The row says how many attempts were made, `a`. All copies of the same n are
//! equal and merge when n is recorded, so the protocol needs no generation number and no token.

use super::backoff::DelayQueues;
use super::dead_reason::DeadReason;
use super::decision::Decision;
use super::poison::SUSPECT_DELIVERY_COUNT;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    Pending,
    Retrying,
    Held,
    Delivered,
    Dead,
}

/// What the protocol needs to know of a delivery's row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row {
    pub status: Status,
    pub attempts: i32,
    /// Attempts made before the last requeue: ceilings and tiers count from here.
    pub base_attempts: i32,
    pub max_attempts: i32,
    /// Time until the message should be in a work queue; zero or negative when that time has come.
    pub due_in_ms: Option<i64>,
    pub dead_reason: Option<DeadReason>,
}

impl Row {
    /// What it would send is gone for good.
    pub fn is_erased(&self) -> bool {
        self.dead_reason == Some(DeadReason::Erased)
    }
}

/// A message as received, as far as the protocol is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Received {
    pub attempt: i32,
    /// AMQP `redelivered`: an earlier consumer may have died between two effects.
    pub redelivered: bool,
    /// It came from the queue of first attempts.
    pub first: bool,
    /// How often the broker handed it out before, where the broker counts.
    pub delivery_count: u32,
}

impl Received {
    /// Reading the row first only saves duplicate requests; a fresh first attempt needs no reading.
    pub fn needs_row(&self) -> bool {
        !self.first || self.redelivered
    }

    /// After an answer that was lost: its own effect may be what made the row move on, and nothing has followed from it
    /// yet. That is what a redelivered message has to reckon with too.
    pub fn unsure(self, unsure: bool) -> Received {
        Received { redelivered: self.redelivered || unsure, ..self }
    }

    pub fn is_suspect(&self) -> bool {
        self.redelivered && self.delivery_count >= SUSPECT_DELIVERY_COUNT
    }
}

/// What to do with a message, given its row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Step {
    /// Ask the gate, then make the attempt.
    Proceed,
    /// The row is not there (yet): wait a moment for it, then drop the message.
    AwaitRow,
    /// Nothing to do: acknowledge.
    Drop(DropReason),
    /// An earlier worker may have died before publishing what the row says: publish it, then acknowledge.
    Follow(Successor),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DropReason {
    /// The attempt that it asks for was made already, or another copy owns it.
    Stale,
    /// The release owns the delivery.
    Held,
    /// It asks for an attempt that nobody can have asked for yet. Cannot happen; worth a log line.
    Future,
}

/// What the row says must be in the broker now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Successor {
    /// Message `attempt` into the delay queue of this many milliseconds.
    Delay {
        attempt: i32,
        ms: u64,
    },
    /// Message `attempt` into the queue of due retries.
    Retry {
        attempt: i32,
    },
    /// A dead letter to the dead-letter queue.
    DeadLetter {
        attempts: i32,
    },
    Nothing,
}

/// The table of the protocol: message and row to action.
pub fn receive(message: Received, row: Option<&Row>, queues: &DelayQueues) -> Step {
    let Some(row) = row else { return Step::AwaitRow };
    let n = message.attempt;
    let next = row.attempts + 1;
    if n > next {
        return Step::Drop(DropReason::Future);
    }
    // Only a redelivered message proves that somebody may have died between recording and publishing. Republishing for
    // others would start second chains; republishing for none would lose dead letters.
    let follow_if_redelivered = || {
        if message.redelivered { Step::Follow(successor(row, queues)) } else { Step::Drop(DropReason::Stale) }
    };
    match row.status {
        Status::Pending if n == next => Step::Proceed,
        Status::Retrying if n == next => Step::Proceed,
        Status::Retrying if n == row.attempts => follow_if_redelivered(),
        Status::Dead if n >= row.attempts && !row.is_erased() => follow_if_redelivered(),
        Status::Held => Step::Drop(DropReason::Held),
        Status::Pending | Status::Retrying | Status::Delivered | Status::Dead => Step::Drop(DropReason::Stale),
    }
}

/// The one place that says what follows from a row; used after settling and for redelivered messages alike.
pub fn successor(row: &Row, queues: &DelayQueues) -> Successor {
    match row.status {
        Status::Retrying => {
            let attempt = row.attempts + 1;
            match delay_queue(row.due_in_ms, queues) {
                Some(ms) => Successor::Delay { attempt, ms },
                None => Successor::Retry { attempt },
            }
        }
        Status::Dead if row.is_erased() => Successor::Nothing,
        Status::Dead => Successor::DeadLetter { attempts: row.attempts },
        Status::Pending | Status::Held | Status::Delivered => Successor::Nothing,
    }
}

fn delay_queue(due_in_ms: Option<i64>, queues: &DelayQueues) -> Option<u64> {
    let remaining = u64::try_from(due_in_ms?).ok().filter(|ms| *ms > 0)?;
    queues.at_least(remaining).or_else(|| queues.longest())
}

/// Records attempt `n`. `None` when the compare-and-set loses: the row has moved on.
///
/// The statement in `store::deliveries` does the same in SQL; a test holds the two against each other.
pub fn settle(row: &Row, n: i32, decision: &Decision, budget: Option<u32>) -> Option<Row> {
    if row.attempts != n - 1 || row.status == Status::Delivered || row.is_erased() {
        return None;
    }
    let recorded = Row { attempts: n, ..*row };
    let dead = |reason| Row { status: Status::Dead, due_in_ms: None, dead_reason: Some(reason), ..recorded };
    let waiting = |status, delay_ms: u64| Row { status, due_in_ms: Some(delay_ms as i64), ..recorded };
    Some(match decision {
        Decision::Delivered => Row { status: Status::Delivered, due_in_ms: None, dead_reason: None, ..recorded },
        Decision::Dead(reason) => dead(*reason),
        // Dead stays dead: only a requeue, or a success, brings a delivery back.
        _ if row.status == Status::Dead => recorded,
        _ if is_exhausted(&recorded, budget) => dead(DeadReason::Exhausted),
        Decision::Retry { delay_ms } => waiting(Status::Retrying, *delay_ms),
        Decision::Park { delay_ms, .. } => waiting(Status::Held, *delay_ms),
    })
}

/// The ceiling fixed at fan-out, or the lower one that the retry budget sets at run time.
pub fn is_exhausted(row: &Row, budget: Option<u32>) -> bool {
    let made = row.attempts - row.base_attempts;
    made >= row.max_attempts || budget.is_some_and(|retries| made > retries as i32)
}

/// Takes the delivery out of the broker without spending an attempt.
pub fn hold(row: &Row, n: i32, delay_ms: u64) -> Option<Row> {
    is_live(row, n).then_some(Row { status: Status::Held, due_in_ms: Some(delay_ms as i64), ..*row })
}

/// Ends the delivery without an attempt: a message that kills workers, an endpoint that was removed.
pub fn mark_dead(row: &Row, n: i32, reason: DeadReason) -> Option<Row> {
    is_live(row, n).then_some(Row { status: Status::Dead, due_in_ms: None, dead_reason: Some(reason), ..*row })
}

fn is_live(row: &Row, n: i32) -> bool {
    row.attempts == n - 1 && matches!(row.status, Status::Pending | Status::Retrying)
}

/// Puts a held delivery back on its way. The message to publish is attempt `attempts + 1`.
pub fn release(row: &Row) -> Option<Row> {
    (row.status == Status::Held).then_some(Row { status: Status::Pending, due_in_ms: Some(0), ..*row })
}

/// Grants a dead delivery a fresh set of attempts. `attempts` is never reset, or old messages would ask for future ones.
pub fn requeue(row: &Row) -> Option<Row> {
    (row.status == Status::Dead && !row.is_erased()).then_some(Row {
        status: Status::Pending,
        base_attempts: row.attempts,
        due_in_ms: Some(0),
        dead_reason: None,
        ..*row
    })
}

impl Status {
    pub const ALL: [Status; 5] = [Status::Pending, Status::Retrying, Status::Held, Status::Delivered, Status::Dead];

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Retrying => "retrying",
            Status::Held => "held",
            Status::Delivered => "delivered",
            Status::Dead => "dead",
        }
    }

    pub fn parse(text: &str) -> Option<Status> {
        Status::ALL.into_iter().find(|status| status.as_str() == text)
    }
}
