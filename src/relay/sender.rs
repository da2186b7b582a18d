//! Publishing first attempts: tenants in turn, and only while the queue of first attempts is nearly empty. What waits,
//! waits where it can be sorted: here, and before that in the outbox.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::publish::Publishing;
use super::room::Room;
use crate::domain::message::Message;
use crate::domain::outgoing::Outgoing;
use crate::store::claim::Batch;

/// Messages published with one call.
const CHUNK: usize = 50;
/// Messages, and bytes of payload, that the broker may have to confirm. One message may always be under way.
const UNCONFIRMED: usize = 200;
const UNCONFIRMED_BYTES: usize = 16 * 1024 * 1024;

/// A message and the batch that lists it.
struct Listed {
    batch: i64,
    message: Message,
}

/// What the claimer hands to the sender, and what it learns from it.
#[derive(Default)]
pub(super) struct Outbound {
    state: Mutex<State>,
    /// Something was added, or nothing more will be.
    added: Notify,
    /// There is more room for some tenant.
    room: Notify,
}

#[derive(Default)]
struct State {
    outgoing: Outgoing<Listed>,
    /// Messages of each batch that are not confirmed.
    batches: HashMap<i64, usize>,
    confirmed: Vec<i64>,
    closed: bool,
}

impl Outbound {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn add(&self, batch: Batch) {
        let Some(id) = batch.id else { return };
        let mut state = self.state();
        state.batches.insert(id, batch.messages.len());
        let mut messages = batch.messages.into_iter().peekable();
        while let Some(message) = messages.next() {
            let is_last = messages.peek().is_none_or(|next| next.event_id != message.event_id);
            let bytes = if is_last { message.body.in_memory() } else { 0 };
            let tenant = message.tenant.clone();
            state.outgoing.push(&tenant, Listed { batch: id, message }, bytes);
        }
        drop(state);
        self.added.notify_one();
    }

    /// Waits until more may be claimed.
    pub async fn has_room(&self) {
        while !self.state().outgoing.wants_more() {
            self.room.notified().await;
        }
    }

    /// Waits until some tenant may be claimed from that could not be, or for this long.
    pub async fn changed(&self, limit: Duration) {
        let _ = tokio::time::timeout(limit, self.room.notified()).await;
    }

    pub fn is_empty(&self) -> bool {
        self.state().outgoing.is_empty()
    }

    pub fn crowded(&self) -> Vec<String> {
        self.state().outgoing.crowded()
    }

    /// Batches that are confirmed, every message of them.
    pub fn take_confirmed(&self) -> Vec<i64> {
        std::mem::take(&mut self.state().confirmed)
    }

    /// Batches that wait here, or for their confirms, or to be forgotten.
    pub fn known(&self) -> Vec<i64> {
        let state = self.state();
        state.batches.keys().chain(&state.confirmed).copied().collect()
    }

    fn is_closed(&self) -> bool {
        self.state().closed
    }

    /// Nothing more will be added.
    pub fn close(&self) {
        self.state().closed = true;
        self.added.notify_one();
    }

    /// The next messages in turn, as many as may be under way beside those that are.
    fn take(&self, under_way: UnderWay) -> Vec<Listed> {
        let mut state = self.state();
        let mut chunk = Vec::new();
        let mut bytes = under_way.bytes;
        while chunk.len() < CHUNK && under_way.messages + chunk.len() < UNCONFIRMED {
            let Some(next) = state.outgoing.peek() else { break };
            let nothing_else = under_way.messages == 0 && chunk.is_empty();
            bytes += next.message.body.in_memory();
            if bytes > UNCONFIRMED_BYTES && !nothing_else {
                break;
            }
            chunk.extend(state.outgoing.pop());
        }
        drop(state);
        self.room.notify_one();
        chunk
    }

    fn confirmed(&self, chunk: &Chunk) {
        let mut state = self.state();
        for batch in &chunk.batches {
            let Some(left) = state.batches.get_mut(batch) else { continue };
            *left -= 1;
            if *left == 0 {
                state.batches.remove(batch);
                state.confirmed.push(*batch);
            }
        }
    }
}

/// Messages that were published and not confirmed.
#[derive(Clone, Copy, Default)]
struct UnderWay {
    messages: usize,
    bytes: usize,
}

/// What one call published; one entry for each message.
struct Chunk {
    batches: Vec<i64>,
    bytes: usize,
}

struct Sender {
    publishing: Arc<Publishing>,
    outbound: Arc<Outbound>,
    calls: JoinSet<Chunk>,
    under_way: UnderWay,
    room: Room,
}

/// Publishes until the claimer has closed and everything is confirmed. From `stop` on the depth of the queue is not looked
/// at; at `abandon` what is left stays listed, and another relay adopts it.
pub(super) async fn run(
    publishing: Arc<Publishing>,
    outbound: Arc<Outbound>,
    stop: CancellationToken,
    abandon: CancellationToken,
) {
    let room = Room::new(publishing.broker.clone(), publishing.topology.names.deliver_queue());
    let mut sender = Sender { publishing, outbound, calls: JoinSet::new(), under_way: UnderWay::default(), room };
    tokio::select! {
        () = sender.all(&stop) => {}
        () = abandon.cancelled() => tracing::warn!("abandoned unconfirmed batches; another relay adopts them"),
    }
    sender.room.close().await;
}

impl Sender {
    async fn all(&mut self, stop: &CancellationToken) {
        loop {
            while let Some(done) = self.calls.try_join_next() {
                self.done(done);
            }
            if self.outbound.is_empty() {
                if self.outbound.is_closed() && self.calls.is_empty() {
                    return;
                }
                self.wait().await;
                continue;
            }
            if !self.room.is_free() && !stop.is_cancelled() {
                self.wait_for_room(stop).await;
                continue;
            }
            let chunk = self.outbound.take(self.under_way);
            if !chunk.is_empty() {
                self.publish(chunk);
            } else if let Some(done) = self.calls.join_next().await {
                // As much was under way as may be.
                self.done(done);
            }
        }
    }

    /// Nothing is there to be published. The depth is looked at meanwhile, so that what comes next need not wait for it.
    async fn wait(&mut self) {
        tokio::select! {
            () = self.outbound.added.notified() => {}
            Some(done) = self.calls.join_next() => self.done(done),
            () = self.room.look_ahead() => {}
        }
    }

    async fn wait_for_room(&mut self, stop: &CancellationToken) {
        tokio::select! {
            () = self.room.wait() => {}
            Some(done) = self.calls.join_next() => self.done(done),
            () = stop.cancelled() => {}
        }
    }

    fn publish(&mut self, chunk: Vec<Listed>) {
        let batches: Vec<i64> = chunk.iter().map(|listed| listed.batch).collect();
        let messages: Vec<Message> = chunk.into_iter().map(|listed| listed.message).collect();
        let bytes = messages.iter().map(|message| message.body.in_memory()).sum();
        self.under_way.messages += batches.len();
        self.under_way.bytes += bytes;
        self.room.published(batches.len());
        let publishing = self.publishing.clone();
        self.calls.spawn(async move {
            publishing.first_attempts(messages).await;
            Chunk { batches, bytes }
        });
    }

    fn done(&mut self, done: Result<Chunk, tokio::task::JoinError>) {
        match done {
            Ok(chunk) => {
                self.under_way.messages -= chunk.batches.len();
                self.under_way.bytes -= chunk.bytes;
                self.outbound.confirmed(&chunk);
            }
            // A bug of ours. Its messages would count as under way for ever; a new relay adopts their batches.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}
