//! The processing of one message through the worker: read, gate, POST, decide, settle.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::acks::Receipt;
use super::attempt::{self, Attempted};
use super::context::Context;
use super::database::{Stopping, until_answered};
use super::gates::{Entrance, Permit};
use super::job::{self, Job};
use super::locks::DeliveryLock;
use super::quarantine::{Admission, Suspect};
use super::queue_share::QueueShare;
use super::ready::Ready;
use super::rooms::{Full, Taken};
use super::successors::follow;
use super::{circuits, replicas};
use crate::broker::consumer::{Content, Incoming};
use crate::broker::wire::Undecodable;
use crate::domain::circuit::State;
use crate::domain::dead_reason::DeadReason;
use crate::domain::decision::{Decision, decide};
use crate::domain::delivery::{DropReason, Received, Step, receive};
use crate::domain::gate::{Until, Why, busy};
use crate::domain::ids;
use crate::domain::message::Message;
use crate::domain::outcome::{OurFault, Outcome};
use crate::domain::rooms::{Room, SLOW_MS};
use crate::reconnect::Backoff;
use crate::store::deliveries::Snapshot;
use crate::store::markers;
use crate::telemetry::metrics;
use crate::telemetry::names::HeldReason;

mod without_attempt;

/// How long a message waits for a row that is not there yet. Committed before published, it can only be late by a crash.
const ROW_PATIENCE: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(600)];

/// A message in lock with all that its processing needs.
struct Processing {
    context: Arc<Context>,
    share: Arc<QueueShare>,
    message: Message,
    received: Received,
    receipt: Receipt,
    ends: Ends,
}

/// What ends the way of a message that has not begun its request.
#[derive(Clone)]
pub struct Ends {
    /// The worker begins nothing new.
    pub stop: CancellationToken,
    /// The channel is gone: the broker hands out another copy.
    pub over: CancellationToken,
}

/// An attempt that was made.
struct Made {
    attempted: Attempted,
    outcome: Outcome,
    decision: Decision,
    suspect: Option<Suspect>,
}

/// How a stage ended.
enum Stage<T> {
    Go(T),
    /// The row has moved on while we looked elsewhere: read it again.
    Again,
    /// Everything that had to be done is done.
    Done,
}

pub async fn process(context: Arc<Context>, share: Arc<QueueShare>, incoming: Incoming, receipt: Receipt, ends: Ends) {
    let message = match incoming.content {
        Content::Message(message) => message,
        Content::Marker(published_at) => return record(&context, &share, published_at, receipt).await,
        Content::Foreign(error, body) => return dead_letter_foreign(&context, &error, &body, receipt).await,
    };
    let received = Received {
        attempt: message.attempt,
        redelivered: incoming.redelivered,
        first: share.is_first(),
        delivery_count: incoming.delivery_count,
    };
    let processing = Processing { context, share, message, received, receipt, ends };
    // Err(Stopping): the message stays unacknowledged, and another worker gets it.
    let _ = match AssertUnwindSafe(processing.run()).catch_unwind().await {
        Ok(processed) => processed,
        Err(_) => processing.panicked().await,
    };
}

/// A marker has come through: everything published before it into the same queue has been handed out.
async fn record(context: &Context, share: &QueueShare, published_at: DateTime<Utc>, receipt: Receipt) {
    let queue = share.queue;
    let record = || markers::record(&context.db, queue.key(), published_at);
    let Ok(latency) = until_answered(&context.abandon, "record a marker", record).await else { return };
    if let Some(seconds) = latency {
        metrics::queue_latency(queue.key(), Duration::from_secs_f64(seconds.max(0.0)));
    }
    receipt.settle();
}

async fn dead_letter_foreign(context: &Context, error: &Undecodable, body: &[u8], receipt: Receipt) {
    tracing::error!(%error, "a message that is not ours goes to the dead-letter queue");
    metrics::dead_letter(DeadReason::Undecodable);
    if context.successors.undecodable(error, body, &receipt).await.is_ok() {
        receipt.settle();
    }
}

fn reason(endpoint: &Ready, why: Why) -> HeldReason {
    match why {
        Why::InFlight if endpoint.circuit.state == State::HalfOpen => HeldReason::Circuit,
        Why::InFlight => HeldReason::Busy,
        Why::Rate => HeldReason::RateLimit,
        Why::Slowed => HeldReason::Slowed,
    }
}

impl Processing {
    async fn run(&self) -> Result<(), Stopping> {
        let taken = self.context.locks.lock(self.message.key(), &self.ends.over).await;
        let (lock, waited) = taken.ok_or(Stopping)?;
        let mut must_read =
            waited || self.received.needs_row() || !self.message.is_fresh(Utc::now().timestamp_millis());
        let mut suspected = self.received.is_suspect();
        let mut backoff = Backoff::default();
        for round in 0.. {
            // A row that seems to move on again and again is locked by somebody.
            if round >= 2 {
                backoff.pause().await;
            }
            if must_read {
                let Some(row) = self.may_proceed(self.received).await? else { return Ok(()) };
                suspected |= row.suspected;
            }
            must_read = true;
            let endpoint = match self.endpoint().await? {
                Stage::Go(endpoint) => endpoint,
                Stage::Again => continue,
                Stage::Done => return Ok(()),
            };
            let began = Instant::now();
            let permit = match self.pass_gate(&endpoint).await? {
                Stage::Go(permit) => permit,
                Stage::Again => continue,
                Stage::Done => return Ok(()),
            };
            match self.attempt(&endpoint, permit, began, suspected).await? {
                Stage::Go(made) => return self.hand_over(&endpoint, made, lock).await,
                Stage::Again => continue,
                Stage::Done => return Ok(()),
            }
        }
        Ok(())
    }

    fn age_ms(&self) -> u64 {
        (Utc::now().timestamp_millis() - ids::unix_ms(self.message.event_id)).max(0) as u64
    }

    /// Applies the table of the protocol to the row. `Some`: go on to the gate.
    async fn may_proceed(&self, received: Received) -> Result<Option<Snapshot>, Stopping> {
        let queues = self.context.policies.delays();
        let mut patience = ROW_PATIENCE.iter();
        loop {
            let snapshot = self.context.rows.ask(self.message.key()).await?;
            match receive(received, snapshot.as_ref().map(|snapshot| &snapshot.row), queues) {
                Step::Proceed => return Ok(snapshot),
                Step::AwaitRow => match patience.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => {
                        tracing::warn!(event_id = %self.message.event_id, endpoint_id = %self.message.endpoint_id,
                            "a message without a row was dropped; its event is in the outbox again, or its day is gone");
                        metrics::duplicate_discarded();
                        self.receipt.settle();
                        return Ok(None);
                    }
                },
                Step::Drop(reason) => {
                    self.drop_copy(reason);
                    return Ok(None);
                }
                Step::Follow(successor) => {
                    metrics::duplicate_discarded();
                    let snapshot = snapshot.as_ref();
                    let next = snapshot.and_then(|row| follow(successor, row, &self.message));
                    self.finish(next).await?;
                    return Ok(None);
                }
            }
        }
    }

    fn drop_copy(&self, reason: DropReason) {
        if reason == DropReason::Future {
            tracing::error!(event_id = %self.message.event_id, endpoint_id = %self.message.endpoint_id,
                attempt = self.message.attempt, "a message asks for an attempt that nobody asked for");
        }
        metrics::duplicate_discarded();
        self.receipt.settle();
    }

    /// The endpoint, if it may be sent to. Disabled, its URL not allowed or its circuit open: held. Removed: dead.
    async fn endpoint(&self) -> Result<Stage<Arc<Ready>>, Stopping> {
        let id = self.message.endpoint_id;
        match self.context.endpoints.get(id).await? {
            None => self.mark_dead(DeadReason::EndpointRemoved, "the endpoint was removed").await,
            Some(endpoint) if !endpoint.enabled => self.hold(Until::Now, HeldReason::Disabled).await,
            Some(endpoint) if endpoint.refused.is_some() => self.refuse(&endpoint).await,
            // The relay lets nothing go before the circuit is half open, or the pause over, whatever the row's time says.
            Some(endpoint) if endpoint.circuit.state == State::Open => self.hold(Until::Now, HeldReason::Circuit).await,
            Some(endpoint) if endpoint.is_paused() => self.hold(Until::Now, HeldReason::Slowed).await,
            Some(endpoint) => Ok(Stage::Go(endpoint)),
        }
    }

    async fn pass_gate(&self, endpoint: &Ready) -> Result<Stage<Permit>, Stopping> {
        let limits =
            replicas::limits(self.context.replicas.get(), self.context.limits.max_in_flight, endpoint, &self.share);
        match self.context.gates.enter(endpoint, limits, self.share.arrival()).await {
            Entrance::Granted(permit) => Ok(Stage::Go(permit)),
            Entrance::Held { until, why } => self.hold(until, reason(endpoint, why)).await,
        }
    }

    /// A new one does not wait where the slow room is full: PostgreSQL sorts better what waits for long.
    async fn take_seat(&self, room: Room, began: Instant) -> Result<Taken, Full> {
        let patience = self.share.arrival().patience().saturating_sub(began.elapsed());
        self.share.rooms.enter(&self.message.tenant, room, !self.share.is_first(), patience).await
    }

    async fn attempt(
        &self,
        endpoint: &Ready,
        permit: Permit,
        began: Instant,
        suspected: bool,
    ) -> Result<Stage<Made>, Stopping> {
        let (key, attempt) = (self.message.key(), self.message.attempt);
        let suspect = match if suspected { self.context.quarantine.admit(key, attempt).await? } else { Admission::None }
        {
            Admission::None => None,
            Admission::Suspect(suspect) => Some(suspect),
            Admission::Waits => {
                drop(permit);
                return self.hold_suspect(Duration::ZERO).await;
            }
            Admission::NotYet(rest) => {
                drop(permit);
                return self.hold_suspect(rest).await;
            }
            Admission::Proven => {
                drop(permit);
                return self.mark_poison("workers died again and again while they made this attempt").await;
            }
        };
        let Ok(seat) = self.take_seat(permit.room(), began).await else {
            drop(permit);
            return self.hold(busy(self.share.arrival()), reason(endpoint, Why::InFlight)).await;
        };
        // Not begun yet: a worker that stops leaves it to another one, and so does one whose copy is void anyway.
        if self.ends.stop.is_cancelled() || !self.receipt.is_open() {
            return Err(Stopping);
        }
        if suspect.is_some() {
            self.context.quarantine.begin(key, attempt).await?;
        }
        permit.begun();
        let attempted = tokio::select! {
            attempted = self.request(endpoint, &seat) => attempted,
            () = self.context.abandon.cancelled() => {
                if suspect.is_some() {
                    self.context.quarantine.take_back(key, attempt).await;
                }
                return Err(Stopping);
            }
        };
        drop(seat);
        match attempted.exchange.outcome {
            Ok(outcome) => {
                let decision = self.react(endpoint, permit, &outcome).await?;
                Ok(Stage::Go(Made { attempted, outcome, decision, suspect }))
            }
            Err(fault) => self.not_spent(permit, fault, suspect).await,
        }
    }

    /// What the outcome says about its endpoint, and what follows from it.
    async fn react(&self, endpoint: &Ready, permit: Permit, outcome: &Outcome) -> Result<Decision, Stopping> {
        let policy = self.context.policies.get(endpoint.retry_policy.as_deref());
        let reaction =
            permit.report(circuits::feedback(outcome, policy), endpoint.circuit, &self.context.limits.circuit);
        drop(permit);
        if let Some(turn) = reaction.turn {
            self.context.circuits.turn(endpoint, turn).await?;
        }
        if let Some(length) = reaction.pause {
            self.context.circuits.pause(endpoint.id, length).await?;
        }
        let (key, attempt) = (self.message.key(), self.message.attempt);
        let made = attempt - self.message.base_attempts;
        let decision = decide(outcome, key, attempt, made, policy, self.context.policies.delays());
        Ok(if reaction.keeps_failing { decision.in_postgres() } else { decision })
    }

    async fn not_spent<T>(
        &self,
        permit: Permit,
        fault: OurFault,
        suspect: Option<Suspect>,
    ) -> Result<Stage<T>, Stopping> {
        let (key, attempt) = (self.message.key(), self.message.attempt);
        permit.report_fault(fault);
        drop(permit);
        tracing::warn!(event_id = %key.event_id, endpoint_id = %key.endpoint_id, attempt, error = fault.text(),
            "a fault of ours; held, no attempt spent");
        if suspect.is_some() {
            self.context.quarantine.release(key).await?;
        }
        self.hold_for_our_fault().await
    }

    /// The request. One that grows old makes way for prompt ones.
    async fn request(&self, endpoint: &Ready, seat: &Taken) -> Attempted {
        let client = &self.context.client;
        let mut request = std::pin::pin!(attempt::make(client, endpoint, &self.message, self.context.limits.timeout));
        match tokio::time::timeout(Duration::from_millis(SLOW_MS), &mut request).await {
            Ok(attempted) => attempted,
            Err(_) => {
                seat.grew_old();
                request.await
            }
        }
    }

    async fn hand_over(&self, endpoint: &Ready, made: Made, lock: DeliveryLock) -> Result<(), Stopping> {
        let Made { attempted, outcome, decision, suspect } = made;
        let budget = self.context.policies.get(endpoint.retry_policy.as_deref()).budget;
        let settlement = job::settlement(&self.message, attempted, outcome, decision, budget);
        let status_class = outcome.status_class();
        let (message, receipt) = (self.message.clone(), self.receipt.clone());
        let job = Job { settlement, status_class, message, received: self.received, receipt, lock, suspect };
        self.context.recorder.submit(job).await
    }
}
