//! Publishing many messages at once on one confirming channel, within a window, with one time-out for all.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use lapin::options::BasicPublishOptions;
use lapin::{BasicProperties, Channel, Confirmation};
use tokio::time::{Instant, sleep};

use super::BrokerError;
use super::published::{PublishError, Published};

/// What one call has unconfirmed at most. Until its confirm a message is in memory twice, as it was given and as frames.
const MOST_MESSAGES: usize = 500;
const MOST_BYTES: usize = 16 << 20;

/// One message, ready for the wire.
pub(super) struct Part<'a> {
    pub exchange: String,
    pub key: String,
    pub properties: BasicProperties,
    pub body: &'a [u8],
}

/// Built one by one, as the window lets them go.
pub(super) type Parts<'a> = Box<dyn ExactSizeIterator<Item = Part<'a>> + Send + 'a>;

/// What is sent and not confirmed.
#[derive(Default)]
struct Window {
    messages: usize,
    bytes: usize,
}

impl Window {
    /// One message always fits, whatever its size.
    fn fits(&self, bytes: usize) -> bool {
        self.messages == 0 || (self.messages < MOST_MESSAGES && self.bytes.saturating_add(bytes) <= MOST_BYTES)
    }

    fn sent(&mut self, bytes: usize) {
        self.messages += 1;
        self.bytes += bytes;
    }

    fn answered(&mut self, bytes: usize) {
        self.messages -= 1;
        self.bytes -= bytes;
    }
}

/// Sends in the order given, and says what was answered to each, by its place, as soon as it is. What is open when the
/// broker has answered nothing for `limit` is lost; that time does not run out while `is_blocked` (an alarm: the broker
/// confirms everything afterwards, and trying again meanwhile would only pile up copies).
pub(super) async fn send_all(
    channel: &Channel,
    limit: Duration,
    is_blocked: impl Fn() -> bool,
    parts: Parts<'_>,
    mut answered: impl FnMut(usize, Published),
) {
    let mut open = vec![true; parts.len()];
    let mut parts = parts.enumerate().peekable();
    let mut window = Window::default();
    let mut under_way = FuturesUnordered::new();
    let mut heard = Instant::now();
    let mut patience = std::pin::pin!(sleep(limit));
    loop {
        while let Some((index, part)) = parts.next_if(|(_, part)| window.fits(part.body.len())) {
            window.sent(part.body.len());
            under_way.push(send(channel, index, part));
        }
        tokio::select! {
            biased;
            next = under_way.next() => {
                let Some((index, bytes, answer)) = next else { break };
                window.answered(bytes);
                open[index] = false;
                answered(index, answer);
                heard = Instant::now();
            }
            () = &mut patience => {
                if is_blocked() {
                    heard = Instant::now();
                } else if heard.elapsed() >= limit {
                    break;
                }
                patience.as_mut().reset(heard + limit);
            }
        }
    }
    let lost = || Err(PublishError::Lost(BrokerError::TimedOut { operation: "basic.publish", limit }));
    open.iter().enumerate().filter(|(_, open)| **open).for_each(|(index, _)| answered(index, lost()));
}

/// Its place, its size, and the broker's answer. The first poll puts the frames in the queue of the connection's thread.
async fn send(channel: &Channel, index: usize, part: Part<'_>) -> (usize, usize, Published) {
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let (exchange, key) = (part.exchange.into(), part.key.into());
    let confirmed = async { channel.basic_publish(exchange, key, options, part.body, part.properties).await?.await };
    let answer = match confirmed.await {
        Ok(Confirmation::Ack(None)) => Ok(()),
        Ok(Confirmation::Ack(Some(returned)) | Confirmation::Nack(Some(returned))) => {
            Err(PublishError::Returned(returned.reply_text.to_string()))
        }
        Ok(Confirmation::Nack(None) | Confirmation::NotRequested) => Err(PublishError::Nacked),
        Err(error) => Err(classify(error.into())),
    };
    (index, part.body.len(), answer)
}

fn classify(error: BrokerError) -> PublishError {
    match error {
        // No such exchange: the same as an exchange without the queue.
        BrokerError::Refused { code: 404, text } => PublishError::Returned(text),
        // Precondition failed and content too large are about the message; anything else is about us or the broker.
        BrokerError::Refused { code: 311 | 406, .. } => PublishError::Refused(error),
        other => PublishError::Lost(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_bounds_messages_and_bytes_and_lets_one_of_any_size_through() {
        let mut window = Window::default();
        assert!(window.fits(usize::MAX), "alone");
        window.sent(10);
        assert!(window.fits(MOST_BYTES - 10) && !window.fits(MOST_BYTES - 9) && !window.fits(usize::MAX));
        (1..MOST_MESSAGES).for_each(|_| window.sent(0));
        assert!(!window.fits(0), "as many as may be");
        window.answered(0);
        assert!(window.fits(0));
    }
}
