//! The rules that the checker drives. By default they are the project's own functions, and the order of effects is that
//! of the code; each test that proves the checker able to fail replaces one of them.

use posthaste::domain::backoff::{DelayQueues, Policy};
use posthaste::domain::dead_reason::DeadReason;
use posthaste::domain::decision::{self, Decision};
use posthaste::domain::delivery::{self, Received, Row, Step, Successor};
use posthaste::domain::ids::DeliveryKey;
use posthaste::domain::outcome::Outcome;

use crate::reconcile::{self, Evidence};
use crate::sweep::{self, Action};

#[derive(Clone, Copy)]
pub struct Rules {
    pub decide: fn(&Outcome, DeliveryKey, i32, i32, &Policy, &DelayQueues) -> Decision,
    pub receive: fn(Received, Option<&Row>, &DelayQueues) -> Step,
    pub successor: fn(&Row, &DelayQueues) -> Successor,
    pub settle: fn(&Row, i32, &Decision, Option<u32>) -> Option<Row>,
    pub hold: fn(&Row, i32, u64) -> Option<Row>,
    pub mark_dead: fn(&Row, i32, DeadReason) -> Option<Row>,
    pub release: fn(&Row) -> Option<Row>,
    pub requeue: fn(&Row) -> Option<Row>,
    pub resend: fn(&Row) -> Option<Row>,
    pub retry_now: fn(&Row) -> Option<Row>,
    pub is_lost: fn(&Evidence<'_>) -> bool,
    pub judge: fn(Option<&Row>, i32, bool) -> Action,
    pub order: Order,
}

/// Ways to get the order of effects wrong. All false: as in the code.
#[derive(Clone, Copy, Default)]
pub struct Order {
    pub relay_publishes_before_commit: bool,
    pub release_publishes_before_commit: bool,
    pub requeue_publishes_before_commit: bool,
    pub acknowledge_before_publish: bool,
    /// A lost compare-and-set is acknowledged without reading the row again.
    pub acknowledge_lost_settle: bool,
    /// A compare-and-set that was lost to its own earlier try counts as lost to another copy.
    pub forget_lost_answers: bool,
    /// A worker whose channel is gone does not publish what follows from an attempt that it has recorded.
    pub give_up_publish: bool,
    /// Enabling releases what is held at that moment; there is no scan.
    pub release_when_enabled_only: bool,
    /// The sweep reads the row before it takes the dead letters.
    pub sweep_reads_first: bool,
}

pub const RULES: Rules = Rules {
    decide: decision::decide,
    receive: delivery::receive,
    successor: delivery::successor,
    settle: delivery::settle,
    hold: delivery::hold,
    mark_dead: delivery::mark_dead,
    release: delivery::release,
    requeue: delivery::requeue,
    resend: delivery::resend,
    retry_now: delivery::retry_now,
    is_lost: reconcile::is_lost,
    judge: sweep::judge,
    order: Order {
        relay_publishes_before_commit: false,
        release_publishes_before_commit: false,
        requeue_publishes_before_commit: false,
        acknowledge_before_publish: false,
        acknowledge_lost_settle: false,
        forget_lost_answers: false,
        give_up_publish: false,
        release_when_enabled_only: false,
        sweep_reads_first: false,
    },
};
