//! How many messages are ready in a queue, asked again and again on a channel that stays open.

use lapin::Channel;

use super::connection::Link;
use super::declare::figures_on;
use super::{Result, Settings};

/// A connection of its own: behind what is being published the answer would be late, and under an alarm it would not come.
pub struct Depths {
    settings: Settings,
    open: Option<(Link, Channel)>,
}

impl Depths {
    pub fn new(settings: Settings) -> Depths {
        Depths { settings, open: None }
    }

    /// Messages ready; none where the queue is missing. After an error the next call starts on a fresh channel.
    pub async fn ready(&mut self, queue: &str) -> Result<u32> {
        let answer = self.ask(queue).await;
        match answer {
            // The broker has closed the channel with its answer, and the connection is as good as before.
            Err(error) if error.is_not_found() => Ok(0),
            Err(error) => {
                self.open = None;
                Err(error)
            }
            answer => answer,
        }
    }

    async fn ask(&mut self, queue: &str) -> Result<u32> {
        let (link, channel) = match self.open.take() {
            Some((link, channel)) if link.is_connected() && channel.status().connected() => (link, channel),
            Some((link, _)) if link.is_connected() => {
                let channel = link.channel().await?;
                (link, channel)
            }
            _ => {
                let link = Link::open(&self.settings, "posthaste relay depth").await?;
                let channel = link.channel().await?;
                (link, channel)
            }
        };
        let (link, channel) = self.open.insert((link, channel));
        Ok(figures_on(link, channel, queue).await?.messages)
    }

    pub async fn close(&mut self) {
        if let Some((link, _)) = self.open.take() {
            link.close().await;
        }
    }
}
