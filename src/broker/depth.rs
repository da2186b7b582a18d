//! How many messages are ready in a queue, asked again and again on a channel that stays open.

use lapin::Channel;

use super::connection::Link;
use super::declare::figures_on;
use super::{Result, Settings};

/// A connection of its own: behind what is being published the answer would be late, and under an alarm it would not come.
pub struct Depth {
    settings: Settings,
    queue: String,
    open: Option<(Link, Channel)>,
}

impl Depth {
    pub fn new(settings: Settings, queue: String) -> Depth {
        Depth { settings, queue, open: None }
    }

    /// Messages ready; none where the queue is missing. After an error the next call starts on a fresh channel.
    pub async fn ready(&mut self) -> Result<u32> {
        let answer = self.ask().await;
        if answer.is_err() {
            self.open = None;
        }
        match answer {
            Err(error) if error.is_not_found() => Ok(0),
            answer => answer,
        }
    }

    async fn ask(&mut self) -> Result<u32> {
        let (link, channel) = match self.open.take() {
            Some((link, channel)) if link.is_connected() && channel.status().connected() => (link, channel),
            _ => {
                let link = Link::open(&self.settings, "posthaste relay depth").await?;
                let channel = link.channel().await?;
                (link, channel)
            }
        };
        let (link, channel) = self.open.insert((link, channel));
        Ok(figures_on(link, channel, &self.queue).await?.messages)
    }

    pub async fn close(&mut self) {
        if let Some((link, _)) = self.open.take() {
            link.close().await;
        }
    }
}
