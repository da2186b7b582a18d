//! What the row of a delivery says to a message: go on, forget this copy, or publish what must follow.

use std::sync::Arc;
use std::time::Duration;

use super::coalesce::RowReader;
use super::consumed::Consumed;
use super::database::Stopping;
use super::successors::{Successors, follow};
use crate::domain::backoff::Policies;
use crate::domain::delivery::{DropReason, Received, Step, Successor, receive, successor};
use crate::store::deliveries::Snapshot;
use crate::telemetry::metrics;

/// How long a message waits for a row that is not there yet. Committed before published, it can only be late by a crash.
const ROW_PATIENCE: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(600)];

pub struct RowCheck {
    pub reader: RowReader,
    pub policies: Arc<Policies>,
    pub successors: Arc<Successors>,
}

impl RowCheck {
    /// Applies the table of the protocol to the row. `Some`: go on to the gate.
    pub async fn may_proceed(&self, consumed: &Consumed, received: Received) -> Result<Option<Snapshot>, Stopping> {
        let message = &consumed.message;
        let mut patience = ROW_PATIENCE.iter();
        loop {
            let snapshot = self.reader.ask(message.key()).await?;
            match receive(received, snapshot.as_ref().map(|snapshot| &snapshot.row), self.policies.delays()) {
                Step::Proceed => return Ok(snapshot),
                Step::AwaitRow => match patience.next() {
                    Some(pause) => tokio::time::sleep(*pause).await,
                    None => {
                        tracing::warn!(event_id = %message.event_id, endpoint_id = %message.endpoint_id,
                            "a message without a row was dropped; its event is in the outbox again, or its day is gone");
                        drop_copy(consumed);
                        return Ok(None);
                    }
                },
                Step::Drop(reason) => {
                    if reason == DropReason::Future {
                        tracing::error!(event_id = %message.event_id, endpoint_id = %message.endpoint_id,
                            attempt = message.attempt, "a message asks for an attempt that nobody asked for");
                    }
                    drop_copy(consumed);
                    return Ok(None);
                }
                Step::Follow(next) => {
                    metrics::duplicate_discarded();
                    self.publish(consumed, snapshot.as_ref(), next).await?;
                    return Ok(None);
                }
            }
        }
    }

    /// Publishes what follows from the row as it is now, and acknowledges.
    pub async fn finish(&self, consumed: &Consumed, snapshot: &Snapshot) -> Result<(), Stopping> {
        self.publish(consumed, Some(snapshot), successor(&snapshot.row, self.policies.delays())).await
    }

    async fn publish(&self, consumed: &Consumed, snapshot: Option<&Snapshot>, next: Successor) -> Result<(), Stopping> {
        let next = snapshot.and_then(|row| follow(next, row, &consumed.message));
        self.successors.publish_and_settle(next, &consumed.receipt).await
    }
}

fn drop_copy(consumed: &Consumed) {
    metrics::duplicate_discarded();
    consumed.receipt.settle();
}
