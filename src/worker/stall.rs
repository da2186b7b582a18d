//! A consumer that the broker has forgotten: messages wait, this worker has none unacknowledged, and none comes.
//!
//! Seen with RabbitMQ 3.10: where a quorum queue is deleted and declared again within some tens of milliseconds, its
//! consumers are neither cancelled nor served.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Looks, one after the other, that must all find the same before the subscription is given up. Far more than a broker
/// that is merely busy needs to hand out a message.
const LOOKS: u32 = 5;

/// What goes through one subscription.
#[derive(Debug, Default)]
pub struct Flow {
    received: AtomicU64,
    unacknowledged: AtomicUsize,
}

impl Flow {
    pub fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Not acknowledged.
    pub fn unacknowledged(&self, messages: usize) {
        self.unacknowledged.store(messages, Ordering::Relaxed);
    }
}

/// What was seen of a flow at the last looks.
#[derive(Debug, Default)]
pub struct StallDetector {
    received: u64,
    looks: u32,
}

impl StallDetector {
    /// `waiting`: messages that are ready in the queue. True: the broker should have handed them out long ago.
    pub fn look(&mut self, flow: &Flow, waiting: u32) -> bool {
        let received = flow.received.load(Ordering::Relaxed);
        let stalled = waiting > 0 && received == self.received && flow.unacknowledged.load(Ordering::Relaxed) == 0;
        self.received = received;
        self.looks = if stalled { self.looks + 1 } else { 0 };
        self.looks >= LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(stall: &mut StallDetector, flow: &Flow, waiting: u32, count: u32) -> bool {
        (0..count).any(|_| stall.look(flow, waiting))
    }

    #[test]
    fn messages_that_wait_while_nothing_is_unacknowledged_are_noticed() {
        let (flow, mut stall) = (Flow::default(), StallDetector::default());
        assert!(!looks(&mut stall, &flow, 3, LOOKS - 1));
        assert!(stall.look(&flow, 3));
    }

    #[test]
    fn an_empty_queue_unacknowledged_messages_and_a_flow_are_no_stall() {
        let (flow, mut stall) = (Flow::default(), StallDetector::default());
        assert!(!looks(&mut stall, &flow, 0, 3 * LOOKS), "an empty queue");
        flow.received();
        flow.unacknowledged(1);
        assert!(!looks(&mut stall, &flow, 9, 3 * LOOKS), "unacknowledged");
        flow.unacknowledged(0);
        for _ in 0..3 * LOOKS {
            flow.received();
            assert!(!stall.look(&flow, 9), "a flow");
        }
        assert!(looks(&mut stall, &flow, 9, LOOKS), "and then it stops");
    }
}
