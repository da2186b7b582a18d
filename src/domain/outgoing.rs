//! First attempts that are committed and wait to be published: tenants in turn, a few messages of each.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::turns::TURN;

/// A tenant with more messages than this is not claimed from: it has had its share.
pub const CROWD: usize = 50;
/// Others are claimed from while fewer messages than this wait, beside those of crowded tenants.
pub const ENOUGH: usize = 50;
/// Nothing is claimed while this much waits. One more claim may come on top.
pub const MESSAGES: usize = 20_000;
pub const BYTES: usize = 64 * 1024 * 1024;

/// Messages of type `T`, each with its tenant and with what its removal frees.
#[derive(Debug)]
pub struct Outgoing<T> {
    queues: HashMap<Arc<str>, VecDeque<Waiting<T>>>,
    /// Tenants with messages, in the order of their turns.
    turns: VecDeque<Arc<str>>,
    /// Messages that the first one may still give in its turn.
    left: u32,
    messages: usize,
    bytes: usize,
    /// Messages of tenants that are crowded.
    crowded: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    item: T,
    bytes: usize,
}

impl<T> Default for Outgoing<T> {
    fn default() -> Outgoing<T> {
        Outgoing { queues: HashMap::new(), turns: VecDeque::new(), left: TURN, messages: 0, bytes: 0, crowded: 0 }
    }
}

impl<T> Outgoing<T> {
    /// `bytes`: the memory that is free again when the message is gone. Messages of one event share its payload, so the
    /// last one of them counts it.
    pub fn push(&mut self, tenant: &str, item: T, bytes: usize) {
        let waiting = Waiting { item, bytes };
        match self.queues.get_mut(tenant) {
            Some(queue) => {
                queue.push_back(waiting);
                self.crowded += crowd(queue.len()) - crowd(queue.len() - 1);
            }
            None => {
                let tenant: Arc<str> = tenant.into();
                self.turns.push_back(tenant.clone());
                self.queues.insert(tenant, VecDeque::from([waiting]));
            }
        }
        self.messages += 1;
        self.bytes += bytes;
    }

    /// The next message, in turn.
    pub fn pop(&mut self) -> Option<T> {
        let tenant = self.turns.front()?.clone();
        let queue = self.queues.get_mut(&tenant)?;
        let waiting = queue.pop_front()?;
        self.crowded -= crowd(queue.len() + 1) - crowd(queue.len());
        self.messages -= 1;
        self.bytes -= waiting.bytes;
        self.left -= 1;
        if queue.is_empty() {
            self.queues.remove(&tenant);
            self.turns.pop_front();
            self.left = TURN;
        } else if self.left == 0 {
            self.turns.rotate_left(1);
            self.left = TURN;
        }
        Some(waiting.item)
    }

    /// The message that `pop` would take.
    pub fn peek(&self) -> Option<&T> {
        let queue = self.queues.get(self.turns.front()?)?;
        queue.front().map(|waiting| &waiting.item)
    }

    pub fn is_empty(&self) -> bool {
        self.messages == 0
    }

    pub fn messages(&self) -> usize {
        self.messages
    }

    /// Whether more may be claimed, of tenants that are not crowded.
    pub fn wants_more(&self) -> bool {
        self.messages - self.crowded < ENOUGH && self.messages < MESSAGES && self.bytes < BYTES
    }

    /// Tenants that have had their share.
    pub fn crowded(&self) -> Vec<String> {
        if self.crowded == 0 {
            return Vec::new();
        }
        let crowded = self.queues.iter().filter(|(_, queue)| queue.len() > CROWD);
        crowded.map(|(tenant, _)| tenant.to_string()).collect()
    }
}

/// What a queue of this length adds to the messages of crowded tenants.
fn crowd(len: usize) -> usize {
    if len > CROWD { len } else { 0 }
}

#[cfg(test)]
#[path = "outgoing_tests.rs"]
mod tests;
