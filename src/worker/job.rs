//! A finished attempt between its request and its acknowledgement.

use std::sync::Arc;

use super::acks::Receipt;
use super::attempt::Attempted;
use super::locks::DeliveryLock;
use super::quarantine::Suspect;
use super::ready::Ready;
use super::trace::Trace;
use crate::domain::decision::Decision;
use crate::domain::delivery::Received;
use crate::domain::message::Message;
use crate::domain::outcome::Outcome;
use crate::store::deliveries::Snapshot;
use crate::store::settle::{self, Settlement};
use crate::store::{Db, StoreError};
use crate::telemetry::names::Standing;

/// A finished attempt on its way to be recorded.
pub struct Job {
    pub settlement: Settlement,
    /// What the endpoint has done, as the metrics name it.
    pub status_class: &'static str,
    pub standing: Standing,
    pub message: Message,
    pub received: Received,
    pub receipt: Receipt,
    pub lock: DeliveryLock,
    pub suspect: Option<Suspect>,
    pub trace: Option<Arc<Trace>>,
}

/// For each job the row as it is now; none where it had moved on.
pub type Rows = Vec<Option<Snapshot>>;

/// What was recorded of a batch.
pub struct Recorded {
    pub rows: Rows,
    /// An earlier try may be why: its answer was lost.
    pub unsure: bool,
}

/// What latency may be expected of the endpoint: `first` if the message came through the queue of first attempts.
pub fn standing(endpoint: &Ready, message: &Message, first: bool, outcome: &Outcome) -> Standing {
    let made = message.attempt - message.base_attempts;
    if made > 1 || endpoint.circuit.trips > 0 || !outcome.is_delivered() {
        Standing::Failing
    } else if endpoint.rate_limit.is_some() || !first {
        Standing::Limited
    } else {
        Standing::Healthy
    }
}

/// What is recorded of an attempt.
pub fn settlement(
    message: &Message,
    attempted: Attempted,
    outcome: Outcome,
    decision: Decision,
    budget: Option<u32>,
) -> Settlement {
    let exchange = attempted.exchange;
    Settlement {
        key: message.key(),
        attempt: message.attempt,
        decision,
        budget: budget.map(|retries| retries.min(i32::MAX as u32) as i32),
        status_code: outcome.status().map(i32::from),
        error: outcome.error(),
        duration_ms: exchange.duration.as_millis().min(i32::MAX as u128) as i32,
        started_at: attempted.started_at,
        request_headers: attempted.request_headers,
        response_headers: exchange.response_headers,
        response_body: exchange.response_body,
    }
}

/// Where attempts are recorded.
#[derive(Clone)]
pub struct Ledger {
    pub db: Db,
    /// The worker, as the attempts table names it.
    pub worker: String,
}

impl Ledger {
    /// One try for all of them together.
    pub async fn record(&self, jobs: &[Job]) -> Result<Rows, StoreError> {
        let settlements: Vec<&Settlement> = jobs.iter().map(|job| &job.settlement).collect();
        settle::settle(&self.db, &self.worker, &settlements).await
    }
}
