//! The processing of one message through the worker: read, gate, POST, decide, settle.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use chrono::Utc;
use futures_util::FutureExt;
use tokio::time::Instant;

use super::acks::Receipt;
use super::consumed::{Consumed, Ends};
use super::database::Stopping;
use super::ending::{Ended, Ending};
use super::gatekeeper::{Gatekeeper, take_seat};
use super::gates::Permit;
use super::job::{self, Job};
use super::locks::DeliveryLocks;
use super::markers::Markers;
use super::payload::Payloads;
use super::quarantine::{Quarantine, Suspect};
use super::queue_share::QueueShare;
use super::reactions::Reactions;
use super::recorder::Recorder;
use super::refused::{NotMade, Refused};
use super::row_check::RowCheck;
use super::sender::Sender;
use super::successors::Successors;
use super::trace::Trace;
use crate::broker::consumer::{Content, Incoming};
use crate::domain::delivery::Received;
use crate::domain::message::Message;
use crate::domain::outcome::OurFault;
use crate::reconnect::Backoff;
use crate::store::settle::Settlement;
use crate::telemetry::names::Standing;

/// Whatever may come from a work queue, and what takes care of it.
pub struct Processor {
    pub markers: Markers,
    pub successors: Arc<Successors>,
    pub deliveries: Deliveries,
}

/// What makes a message an attempt, or ends its way without one. Each part has what it needs, and nobody else's.
pub struct Deliveries {
    pub locks: DeliveryLocks,
    pub rows: Arc<RowCheck>,
    pub attempts: Attempts,
    pub recorder: Recorder,
    pub ending: Ending,
}

/// The way from an endpoint's gate to a decision.
pub struct Attempts {
    pub gatekeeper: Gatekeeper,
    pub payloads: Payloads,
    pub quarantine: Arc<Quarantine>,
    pub sender: Sender,
    pub reactions: Reactions,
}

/// An attempt that was made.
struct Made {
    settlement: Settlement,
    status_class: &'static str,
    standing: Standing,
    suspect: Option<Suspect>,
    payload: Bytes,
}

impl Processor {
    pub async fn process(self: Arc<Self>, share: Arc<QueueShare>, incoming: Incoming, receipt: Receipt, ends: Ends) {
        // Err(Stopping): the message stays unacknowledged, and another worker gets it.
        let _ = match incoming.content {
            Content::Message(message) => {
                let received = Received {
                    attempt: message.attempt,
                    redelivered: incoming.redelivered,
                    first: share.is_first(),
                    delivery_count: incoming.delivery_count,
                };
                let trace = Trace::begin(&message, &share);
                self.deliveries.process(&Consumed { share, message, received, receipt, ends, trace }).await
            }
            Content::Marker(published_at) => {
                Box::pin(self.markers.record(share.queue, published_at, &receipt)).await;
                Ok(())
            }
            Content::Foreign(error, body) => {
                Box::pin(self.successors.dead_letter_foreign(&error, &body, &receipt)).await
            }
        };
    }
}

impl Deliveries {
    async fn process(&self, consumed: &Consumed) -> Result<(), Stopping> {
        match AssertUnwindSafe(self.run(consumed)).catch_unwind().await {
            Ok(processed) => processed,
            Err(_) => Box::pin(self.panicked(consumed)).await,
        }
    }

    async fn run(&self, consumed: &Consumed) -> Result<(), Stopping> {
        let (message, received) = (&consumed.message, consumed.received);
        let taken = self.locks.lock(message.key(), &consumed.ends.over).await;
        let (lock, waited) = taken.ok_or(Stopping)?;
        let mut must_read = waited || received.needs_row() || !message.is_fresh(Utc::now().timestamp_millis());
        let mut suspected = received.is_suspect();
        let mut backoff = Backoff::default();
        for round in 0.. {
            // A row that seems to move on again and again is locked by somebody.
            if round >= 2 {
                backoff.pause().await;
            }
            let has_row = must_read;
            if must_read {
                let Some(row) = Box::pin(self.rows.may_proceed(consumed, received)).await? else { return Ok(()) };
                suspected |= row.suspected;
            }
            must_read = true;
            match self.attempts.make(consumed, suspected).await {
                Ok(Made { settlement, status_class, standing, suspect, payload }) => {
                    // What follows gets the payload along, which was read once already.
                    let (message, receipt) = (message.with(payload), consumed.receipt.clone());
                    let trace = consumed.trace.clone();
                    let job =
                        Job { settlement, status_class, standing, message, received, receipt, lock, suspect, trace };
                    return self.recorder.submit(job).await;
                }
                Err(NotMade::Stopping) => return Err(Stopping),
                // A crash of the database may have undone the claim, and the event is in the outbox again: the row tells.
                Err(NotMade::NoPayload) if !has_row => {}
                Err(NotMade::NoPayload) => match Box::pin(self.without_payload(consumed)).await? {
                    Ended::Done => return Ok(()),
                    Ended::MovedOn => {}
                },
                Err(NotMade::Refused(refused)) => match Box::pin(self.ending.end(consumed, refused)).await? {
                    Ended::Done => return Ok(()),
                    Ended::MovedOn => {}
                },
            }
        }
        Ok(())
    }

    async fn without_payload(&self, consumed: &Consumed) -> Result<Ended, Stopping> {
        let key = consumed.message.key();
        tracing::error!(event_id = %key.event_id, endpoint_id = %key.endpoint_id,
            "the event of a delivery is gone, and with it the payload; held, no attempt spent");
        self.ending.end(consumed, Refused::OurFault).await
    }

    /// Our own code panicked. The delivery is held, so that nothing is lost and no attempt is spent; one that does it again
    /// and again is poison.
    async fn panicked(&self, consumed: &Consumed) -> Result<(), Stopping> {
        let (key, attempt) = (consumed.message.key(), consumed.message.attempt);
        tracing::error!(event_id = %key.event_id, endpoint_id = %key.endpoint_id, attempt,
            "a fault of ours: the worker panicked at this message");
        let refused = if self.attempts.quarantine.failed(key, attempt).await? {
            Refused::Poison("the worker panicked at it again and again")
        } else {
            Refused::OurFault
        };
        // Where the row has moved on, this copy is not what makes it go, and reading it may be what panicked.
        if self.ending.end(consumed, refused).await? == Ended::MovedOn {
            consumed.receipt.settle();
        }
        Ok(())
    }
}

impl Attempts {
    async fn make(&self, consumed: &Consumed, suspected: bool) -> Result<Made, NotMade> {
        let message = &consumed.message;
        let endpoint = self.gatekeeper.endpoint(message.endpoint_id).await?;
        let payload = self.payloads.of(message).await?;
        let began = Instant::now();
        let permit = self.gatekeeper.pass(&endpoint, &consumed.share).await?;
        let suspect =
            if suspected { Some(Box::pin(self.quarantine.admit(message.key(), message.attempt)).await?) } else { None };
        let seat = take_seat(consumed, &endpoint, permit.room(&endpoint), began).await?;
        if !consumed.may_begin() {
            return Err(NotMade::Stopping);
        }
        let attempted = self.sender.send(&endpoint, (consumed, &payload), &permit, &seat, suspect.is_some()).await?;
        drop(seat);
        match attempted.exchange.outcome {
            Ok(outcome) => {
                let settlement = self.reactions.react(&endpoint, permit, message, attempted, outcome).await?;
                let standing = job::standing(&endpoint, message, consumed.received.first, &outcome);
                Ok(Made { settlement, status_class: outcome.status_class(), standing, suspect, payload })
            }
            Err(fault) => Box::pin(self.not_spent(message, permit, fault, suspect)).await,
        }
    }

    async fn not_spent<T>(
        &self,
        message: &Message,
        permit: Permit,
        fault: OurFault,
        suspect: Option<Suspect>,
    ) -> Result<T, NotMade> {
        let (key, attempt) = (message.key(), message.attempt);
        permit.report_fault(fault);
        drop(permit);
        tracing::warn!(event_id = %key.event_id, endpoint_id = %key.endpoint_id, attempt, error = fault.text(),
            "a fault of ours; held, no attempt spent");
        if suspect.is_some() {
            self.quarantine.release(key).await?;
        }
        Err(Refused::OurFault.into())
    }
}
