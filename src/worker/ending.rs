//! How a message's way ends without an attempt: its delivery is held, or dead.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::coalesce::Holder;
use super::consumed::Consumed;
use super::database::{Stopping, until_answered_or_done};
use super::quarantine::Quarantine;
use super::refused::Refused;
use super::row_check::RowCheck;
use crate::domain::dead_reason::DeadReason;
use crate::domain::decision::our_fault_pause_ms;
use crate::domain::gate::Until;
use crate::domain::poison;
use crate::store::Db;
use crate::store::deliveries::{self, Hold, Snapshot};
use crate::telemetry::metrics;
use crate::telemetry::names::HeldReason;

pub struct Ending {
    pub db: Db,
    pub holds: Holder,
    pub rows: Arc<RowCheck>,
    pub quarantine: Arc<Quarantine>,
    pub abandon: CancellationToken,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Everything that had to be done is done.
    Done,
    /// The row has moved on meanwhile: read it again.
    MovedOn,
}

impl Ending {
    pub async fn end(&self, consumed: &Consumed, refused: Refused) -> Result<Ended, Stopping> {
        if let Some(trace) = &consumed.trace {
            let (outcome, reason) = refused.names();
            trace.came_to(outcome, Some(reason));
        }
        let pause_ms = our_fault_pause_ms(consumed.age_ms());
        match refused {
            Refused::Held { until, reason } => self.hold(consumed, until, reason).await,
            Refused::OurFault => self.hold(consumed, Until::In(pause_ms), HeldReason::OurFault).await,
            // Until the database has it, nobody may try again at once.
            Refused::Url => self.hold(consumed, Until::In(pause_ms), HeldReason::Disabled).await,
            Refused::Suspect { rest } => {
                let until = Until::In(until_tried_ms(rest, pause_ms));
                self.hold(consumed, until, HeldReason::OurFault).await
            }
            Refused::EndpointRemoved => {
                self.mark_dead(consumed, DeadReason::EndpointRemoved, "the endpoint was removed").await
            }
            Refused::Poison(error) => {
                let ended = self.mark_dead(consumed, DeadReason::Poison, error).await?;
                self.quarantine.release(consumed.message.key()).await?;
                Ok(ended)
            }
        }
    }

    /// Back to PostgreSQL without spending an attempt. A row that has moved on is read again.
    async fn hold(&self, consumed: &Consumed, until: Until, reason: HeldReason) -> Result<Ended, Stopping> {
        let (key, attempt) = (consumed.message.key(), consumed.message.attempt);
        let delay_ms = match until {
            Until::Now => 0,
            Until::OwnTime => -(consumed.age_ms() as i64),
            Until::In(ms) => ms as i64,
        };
        if !self.holds.ask(Hold { key, attempt, delay_ms }).await? {
            return Ok(Ended::MovedOn);
        }
        metrics::held(reason);
        tracing::debug!(event_id = %key.event_id, endpoint_id = %key.endpoint_id, reason = reason.as_str(), delay_ms, "held");
        consumed.receipt.settle();
        Ok(Ended::Done)
    }

    /// Ends the delivery without an attempt, and publishes its dead letter.
    async fn mark_dead(&self, consumed: &Consumed, reason: DeadReason, error: &str) -> Result<Ended, Stopping> {
        let (key, attempt) = (consumed.message.key(), consumed.message.attempt);
        let end = || deliveries::mark_dead(&self.db, key, attempt, reason, Some(error));
        let (snapshot, unsure) = until_answered_or_done(&self.abandon, "end a delivery", end).await?;
        match snapshot {
            Some(snapshot) => self.dead_letter(consumed, &snapshot, reason).await?,
            None if unsure && self.is_done(consumed).await? => {}
            None => return Ok(Ended::MovedOn),
        }
        Ok(Ended::Done)
    }

    /// The answer was lost: our own effect may be what made the row move on.
    async fn is_done(&self, consumed: &Consumed) -> Result<bool, Stopping> {
        Ok(self.rows.may_proceed(consumed, consumed.received.unsure(true)).await?.is_none())
    }

    async fn dead_letter(&self, consumed: &Consumed, row: &Snapshot, reason: DeadReason) -> Result<(), Stopping> {
        metrics::dead_letter(reason);
        tracing::error!(event_id = %row.key.event_id, endpoint_id = %row.key.endpoint_id,
            reason = reason.as_str(), "dead letter without an attempt");
        self.rows.finish(consumed, row).await
    }
}

/// Until a suspect may be tried, and some time more, which is different for each.
fn until_tried_ms(rest: Duration, pause_ms: u64) -> u64 {
    rest.as_millis() as u64 + poison::spread_ms(pause_ms, rand::random())
}
