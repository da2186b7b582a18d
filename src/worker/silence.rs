//! A consumer that the broker has forgotten: messages wait, this worker has nothing in hand, and nothing comes.
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
    in_hand: AtomicUsize,
}

impl Flow {
    pub fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    /// Not acknowledged.
    pub fn in_hand(&self, messages: usize) {
        self.in_hand.store(messages, Ordering::Relaxed);
    }
}

/// What was seen of a flow at the last looks.
#[derive(Debug, Default)]
pub struct Silence {
    received: u64,
    looks: u32,
}

impl Silence {
    /// `waiting`: messages that are ready in the queue. True: the broker should have handed them out long ago.
    pub fn look(&mut self, flow: &Flow, waiting: u32) -> bool {
        let received = flow.received.load(Ordering::Relaxed);
        let silent = waiting > 0 && received == self.received && flow.in_hand.load(Ordering::Relaxed) == 0;
        self.received = received;
        self.looks = if silent { self.looks + 1 } else { 0 };
        self.looks >= LOOKS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(silence: &mut Silence, flow: &Flow, waiting: u32, count: u32) -> bool {
        (0..count).any(|_| silence.look(flow, waiting))
    }

    #[test]
    fn messages_that_wait_while_nothing_is_in_hand_are_noticed() {
        let (flow, mut silence) = (Flow::default(), Silence::default());
        assert!(!looks(&mut silence, &flow, 3, LOOKS - 1));
        assert!(silence.look(&flow, 3));
    }

    #[test]
    fn an_empty_queue_a_full_hand_and_a_flow_are_no_silence() {
        let (flow, mut silence) = (Flow::default(), Silence::default());
        assert!(!looks(&mut silence, &flow, 0, 3 * LOOKS), "an empty queue");
        flow.received();
        flow.in_hand(1);
        assert!(!looks(&mut silence, &flow, 9, 3 * LOOKS), "in hand");
        flow.in_hand(0);
        for _ in 0..3 * LOOKS {
            flow.received();
            assert!(!silence.look(&flow, 9), "a flow");
        }
        assert!(looks(&mut silence, &flow, 9, LOOKS), "and then it stops");
    }
}
