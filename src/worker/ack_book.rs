//! Which messages may be acknowledged, and how: one `multiple` for the settled prefix, single ones beyond it.
//!
//! A `multiple` acknowledgement costs the broker a quarter of single ones. But a prefix ends at the first message that is
//! still being worked on, and one slow endpoint must not keep everything behind it unacknowledged.

use std::collections::BTreeMap;

/// The books of one channel. Tags are handed out in ascending order.
#[derive(Debug, Default)]
pub struct AckBook {
    /// Tag -> settled.
    open: BTreeMap<u64, bool>,
    settled: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    pub tag: u64,
    pub multiple: bool,
}

impl AckBook {
    pub fn received(&mut self, tag: u64) {
        self.open.insert(tag, false);
    }

    pub fn settled(&mut self, tag: u64) {
        if let Some(settled) = self.open.get_mut(&tag).filter(|settled| !**settled) {
            *settled = true;
            self.settled += 1;
        }
    }

    /// The acknowledgement of everything up to the first message that is still open.
    pub fn take_prefix(&mut self) -> Option<Ack> {
        let mut last = None;
        while let Some(entry) = self.open.first_entry().filter(|entry| *entry.get()) {
            last = Some(entry.remove_entry().0);
            self.settled -= 1;
        }
        last.map(|tag| Ack { tag, multiple: true })
    }

    /// Acknowledgements of what is settled beyond the prefix.
    pub fn take_singles(&mut self) -> Vec<Ack> {
        let tags: Vec<u64> = self.open.iter().filter(|(_, settled)| **settled).map(|(tag, _)| *tag).collect();
        for tag in &tags {
            self.open.remove(tag);
        }
        self.settled = 0;
        tags.into_iter().map(|tag| Ack { tag, multiple: false }).collect()
    }

    /// Settled and not acknowledged.
    pub fn settled_waiting(&self) -> usize {
        self.settled
    }

    /// Not acknowledged.
    pub fn open_messages(&self) -> usize {
        self.open.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slow_head_does_not_keep_what_is_behind_it() {
        let mut book = AckBook::default();
        (1..=5).for_each(|tag| book.received(tag));
        [2, 3, 5].into_iter().for_each(|tag| book.settled(tag));
        assert_eq!(book.take_prefix(), None);
        assert_eq!(book.settled_waiting(), 3);
        let singles: Vec<u64> = book.take_singles().into_iter().map(|ack| ack.tag).collect();
        assert_eq!(singles, [2, 3, 5]);
        book.settled(1);
        assert_eq!(book.take_prefix(), Some(Ack { tag: 1, multiple: true }));
        book.settled(4);
        book.settled(4);
        assert_eq!(book.take_prefix(), Some(Ack { tag: 4, multiple: true }));
        assert_eq!((book.open_messages(), book.settled_waiting()), (0, 0));
    }

    proptest! {
        /// What the broker takes as acknowledged is exactly what was settled, whatever the order.
        #[test]
        fn only_settled_messages_are_ever_acknowledged(order in Just((1..=40u64).collect::<Vec<_>>()).prop_shuffle(),
                                                       flush in prop::collection::vec(0u8..3, 40)) {
            let mut book = AckBook::default();
            (1..=40).for_each(|tag| book.received(tag));
            let (mut settled, mut at_broker) = (BTreeSet::new(), (1..=40u64).collect::<BTreeSet<_>>());
            for (tag, how) in order.into_iter().zip(flush) {
                book.settled(tag);
                settled.insert(tag);
                let acks = match how {
                    0 => vec![],
                    1 => book.take_prefix().into_iter().collect(),
                    _ => book.take_singles(),
                };
                for ack in acks {
                    let gone: Vec<u64> = at_broker.iter().copied()
                        .filter(|t| *t == ack.tag || (ack.multiple && *t < ack.tag)).collect();
                    for t in gone {
                        prop_assert!(settled.contains(&t), "{t} was not settled");
                        at_broker.remove(&t);
                    }
                }
            }
            if let Some(ack) = book.take_prefix() {
                at_broker.retain(|tag| *tag > ack.tag);
            }
            prop_assert!(at_broker.is_empty());
        }
    }
}
