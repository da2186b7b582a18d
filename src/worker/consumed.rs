//! A message that this worker has taken from a work queue, with all that belongs to this copy of it.

use std::sync::Arc;

use chrono::Utc;
use tokio_util::sync::CancellationToken;

use super::acks::Receipt;
use super::queue_share::QueueShare;
use super::trace::Trace;
use crate::domain::delivery::Received;
use crate::domain::ids;
use crate::domain::message::Message;

pub struct Consumed {
    pub share: Arc<QueueShare>,
    pub message: Message,
    pub received: Received,
    pub receipt: Receipt,
    pub ends: Ends,
    pub trace: Option<Arc<Trace>>,
}

/// What ends the way of a message that has not begun its request.
#[derive(Clone)]
pub struct Ends {
    /// The worker begins nothing new.
    pub stop: CancellationToken,
    /// The channel is gone: the broker hands out another copy.
    pub over: CancellationToken,
}

impl Consumed {
    /// Of its event.
    pub fn age_ms(&self) -> u64 {
        (Utc::now().timestamp_millis() - ids::unix_ms(self.message.event_id)).max(0) as u64
    }

    /// False: a worker that stops leaves it to another one, and so does one whose copy is void anyway.
    pub fn may_begin(&self) -> bool {
        !self.ends.stop.is_cancelled() && self.receipt.is_open()
    }
}
