//! Acknowledging what is settled: receipts for the messages of one channel, and the task that keeps its book.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::ack_book::AckBook;
use super::bytes::Bytes;
use super::queue_share::QueueShare;
use super::stall::Flow;
use crate::broker::consumer::Acknowledger;

/// Settled messages beyond a slow head are acknowledged one by one at the latest after this time.
const SINGLES: Duration = Duration::from_millis(50);

enum Entry {
    Received(u64),
    Settled(u64),
}

/// What is acknowledged on one channel.
pub struct Acks {
    // Bounded all the same: there are never more entries than unacknowledged messages, which the prefetch limits.
    entries: mpsc::UnboundedSender<Entry>,
    channel: Acknowledger,
}

/// What a message needs to be acknowledged.
#[derive(Clone)]
pub struct Receipt {
    tag: u64,
    entries: mpsc::UnboundedSender<Entry>,
    channel: Acknowledger,
    // Given back with the last copy of the receipt.
    _bytes: Arc<Bytes>,
}

impl Acks {
    /// And the task that acknowledges, until every receipt is gone or the channel's work is `over`.
    pub fn new(
        channel: Acknowledger,
        share: Arc<QueueShare>,
        flow: Arc<Flow>,
        over: CancellationToken,
    ) -> (Acks, impl Future<Output = ()>) {
        let (entries, received) = mpsc::unbounded_channel();
        let keeping = keep_book(received, channel.clone(), share, flow, over);
        (Acks { entries, channel }, keeping)
    }

    pub fn receive(&self, tag: u64, bytes: Bytes) -> Receipt {
        let _ = self.entries.send(Entry::Received(tag));
        Receipt { tag, entries: self.entries.clone(), channel: self.channel.clone(), _bytes: Arc::new(bytes) }
    }
}

impl Receipt {
    /// Everything that had to be recorded and confirmed is: the broker may forget the message.
    pub fn settle(&self) {
        // The task ends with the channel; then the broker hands the message out again, and the row knows.
        let _ = self.entries.send(Entry::Settled(self.tag));
    }

    pub fn is_open(&self) -> bool {
        self.channel.is_open()
    }
}

async fn keep_book(
    mut entries: mpsc::UnboundedReceiver<Entry>,
    channel: Acknowledger,
    share: Arc<QueueShare>,
    flow: Arc<Flow>,
    over: CancellationToken,
) {
    let mut book = AckBook::default();
    let mut batch = Vec::new();
    let mut tick = tokio::time::interval(SINGLES);
    loop {
        let prefetch = usize::from(share.prefetch());
        let due = tokio::select! {
            count = entries.recv_many(&mut batch, prefetch) => {
                if count == 0 {
                    flush(&mut book, &channel, true).await;
                    return;
                }
                false
            }
            _ = tick.tick() => true,
            () = over.cancelled() => return,
        };
        for entry in batch.drain(..) {
            match entry {
                Entry::Received(tag) => {
                    flow.received();
                    book.received(tag);
                }
                Entry::Settled(tag) => book.settled(tag),
            }
        }
        let crowded = book.settled_waiting() > prefetch / 4;
        flush(&mut book, &channel, due || crowded).await;
        flow.unacknowledged(book.open_messages());
    }
}

/// An acknowledgement that fails is no loss: the broker hands the message out again, and the row says that it is done.
async fn flush(book: &mut AckBook, channel: &Acknowledger, singles: bool) {
    let mut acks: Vec<_> = book.take_prefix().into_iter().collect();
    if singles && book.settled_waiting() > 0 {
        acks.extend(book.take_singles());
    }
    if let Err(error) = channel.ack_all(acks.into_iter().map(|ack| (ack.tag, ack.multiple))).await {
        tracing::debug!(%error, "an acknowledgement was lost");
    }
}
