//! Publishing again and again until the broker has confirmed everything. What else a failure asks for, and when to give up,
//! its users decide:
//!
//! `while let Some(error) = open.offer(publisher, confirmed).await { open.pause(&error).await }`

use super::published::PublishError;
use super::publisher::{Publisher, Target};
use crate::domain::message::Message;
use crate::reconnect::Backoff;

/// What is published and not confirmed. `T` may hold more than the message, for when it is.
pub struct Unconfirmed<T> {
    open: Vec<T>,
    message: fn(&T) -> (Target, &Message),
    backoff: Backoff,
}

impl Unconfirmed<(Target, Message)> {
    pub fn to(target: &Target, messages: Vec<Message>) -> Unconfirmed<(Target, Message)> {
        let open = messages.into_iter().map(|message| (target.clone(), message)).collect();
        Unconfirmed::new(open, |(target, message)| (target.clone(), message))
    }

    /// What is still open will be published again.
    pub fn again(&mut self) {
        self.open.iter_mut().for_each(|(_, message)| message.published_again());
    }
}

impl<T> Unconfirmed<T> {
    pub fn new(open: Vec<T>, message: fn(&T) -> (Target, &Message)) -> Unconfirmed<T> {
        Unconfirmed { open, message, backoff: Backoff::default() }
    }

    pub fn len(&self) -> usize {
        self.open.len()
    }

    pub fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// Offers that failed, and were followed by a pause.
    pub fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    pub fn into_open(self) -> Vec<T> {
        self.open
    }

    /// Publishes what is open, once; `confirmed` hears of each as soon as it is. `None`: all of it is confirmed.
    pub async fn offer(&mut self, publisher: &Publisher, confirmed: impl FnMut(&T)) -> Option<PublishError> {
        self.offer_unless(publisher, std::future::pending(), confirmed).await
    }

    /// The same, as long as it is not `pointless` to wait for the rest.
    pub async fn offer_unless(
        &mut self,
        publisher: &Publisher,
        pointless: impl Future<Output = ()>,
        mut confirmed: impl FnMut(&T),
    ) -> Option<PublishError> {
        // Nothing to publish is no reason to wait for a connection.
        if self.is_empty() {
            return None;
        }
        let open = &self.open;
        let batch: Vec<(Target, &Message)> = open.iter().map(self.message).collect();
        let mut done = vec![false; open.len()];
        // Of several failures the first one's reason counts.
        let mut failed: Option<(usize, PublishError)> = None;
        let publishing = publisher.publish_each(&batch, |index, answer| match answer {
            Ok(()) => {
                done[index] = true;
                confirmed(&open[index]);
            }
            Err(error) if failed.as_ref().is_none_or(|(first, _)| index < *first) => failed = Some((index, error)),
            Err(_) => {}
        });
        tokio::select! {
            biased;
            () = pointless => {}
            () = publishing => {}
        }
        let mut done = done.into_iter();
        self.open.retain(|_| done.next() != Some(true));
        failed.map(|(_, error)| error)
    }

    pub async fn pause(&mut self, error: &PublishError) {
        tracing::warn!(%error, messages = self.len(), failures = self.failures(), "publishing failed; trying again");
        self.backoff.pause().await;
    }
}
