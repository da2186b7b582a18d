//! The sweep of the dead-letter queue: afterwards it holds exactly what is still dead.
//!
//! The queue is a view of the rows that are `dead`; PostgreSQL decides. Letters whose row has moved on, older letters and
//! doubled ones are acknowledged; a letter that is missing is written again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::broker::connection::Link;
use crate::broker::consumer::{Content, Delivery};
use crate::broker::letters::Pass;
use crate::broker::publisher::{PublishError, Publisher, Target};
use crate::broker::topology::Names;
use crate::broker::{self, BrokerError};
use crate::domain::delivery::{DeadReason, Status};
use crate::domain::ids::DeliveryKey;
use crate::domain::message::{Message, Obituary};
use crate::store::deliveries::{self, Snapshot};
use crate::store::{Db, StoreError, requeue};

/// A worker writes the letter right after the row; this is ample for it.
pub const GRACE: Duration = Duration::from_secs(2);
/// Letters in hand at once.
const PASS: u16 = 500;
/// Letters looked at with one statement.
const CHUNK: usize = 100;
const PAGE: i64 = 500;

pub struct Sweep {
    pub db: Db,
    pub broker: broker::Settings,
    pub names: Names,
    pub publisher: Publisher,
    /// What died more recently may still be getting its letter from its worker.
    pub grace: Duration,
}

/// An account of what was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    /// Letters whose delivery is dead.
    pub kept: u64,
    /// Letters that said nothing new: the delivery lives, died again later, or had a letter already.
    pub dropped: u64,
    /// Letters that were missing.
    pub written: u64,
    /// Letters that the broker refuses to take, for example because the payload is too large for it.
    pub refused: u64,
}

#[derive(Debug, Error)]
pub enum SweepError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error("publishing failed: {0}")]
    Publish(#[from] PublishError),
}

/// The letters that stay: delivery -> the attempts that its letter was written for.
type Kept = HashMap<DeliveryKey, i32>;

impl Sweep {
    pub async fn run(&self) -> Result<Swept, SweepError> {
        let mut swept = Swept::default();
        let mut kept = Kept::new();
        self.look_through(&mut kept, &mut swept).await?;
        self.write_missing(&kept, &mut swept).await?;
        Ok(swept)
    }

    /// Bounded passes until every letter that was there at the start has been looked at once.
    async fn look_through(&self, kept: &mut Kept, swept: &mut Swept) -> Result<(), SweepError> {
        let link = Arc::new(Link::open(&self.broker, "posthaste sweep").await?);
        let mut left = None;
        loop {
            let mut pass = Pass::open(link.clone(), &self.names.dead(), PASS).await?;
            let rotate = pass.count > u32::from(PASS);
            let mut to_see = left.unwrap_or(pass.count);
            let mut seen = 0;
            while to_see > 0 {
                let letters = pass.next(CHUNK.min(to_see as usize)).await?;
                if letters.is_empty() {
                    break;
                }
                seen += letters.len();
                to_see -= letters.len() as u32;
                self.sort_out(&pass, letters, rotate, kept, swept).await?;
            }
            pass.close().await;
            left = Some(to_see);
            if to_see == 0 || seen == 0 {
                break;
            }
        }
        link.close().await;
        Ok(())
    }

    /// Rows are read after their letters were received: a letter that is dropped is dropped for what the row says now.
    async fn sort_out(
        &self,
        pass: &Pass,
        letters: Vec<Delivery>,
        rotate: bool,
        kept: &mut Kept,
        swept: &mut Swept,
    ) -> Result<(), SweepError> {
        let keys: Vec<DeliveryKey> = letters.iter().filter_map(|l| l.content.message().map(Message::key)).collect();
        let rows = deliveries::read(&self.db, &keys).await?;
        let rows: HashMap<DeliveryKey, Snapshot> = rows.into_iter().map(|row| (row.key, row)).collect();
        for letter in letters {
            let row = letter.content.message().and_then(|message| rows.get(&message.key()));
            if self.stays(&letter, row, kept).await? {
                swept.kept += 1;
                if rotate {
                    // The queue is longer than a pass: to its tail, confirmed. A crash in between doubles the letter,
                    // and the next sweep drops the second one.
                    self.to_the_tail(&letter, row).await?;
                    pass.acknowledger().ack(letter.tag, false).await?;
                }
            } else {
                swept.dropped += 1;
                pass.acknowledger().ack(letter.tag, false).await?;
            }
        }
        Ok(())
    }

    async fn stays(&self, letter: &Delivery, row: Option<&Snapshot>, kept: &mut Kept) -> Result<bool, SweepError> {
        let message = match &letter.content {
            Content::Message(message) => message,
            // A marker that was handed out too often; newer ones have taken its place.
            Content::Marker(_) => return Ok(false),
            // What is no message of ours has no row to ask; an operator decides about it.
            Content::Foreign(..) => return Ok(true),
        };
        let Some(attempts) = letter.letter_attempts else {
            self.end_poison(message).await?;
            return Ok(false);
        };
        let is_current = row.is_some_and(|row| row.row.status == Status::Dead && row.row.attempts == attempts);
        Ok(is_current && kept.insert(message.key(), attempts).is_none())
    }

    /// The broker's own letter: the message was handed out too often. Its delivery ends as poison, and gets a letter of
    /// ours like any other dead one.
    async fn end_poison(&self, message: &Message) -> Result<(), SweepError> {
        let error = Some("the broker handed the message out too often");
        deliveries::bury(&self.db, message.key(), message.attempt, DeadReason::Poison, error).await?;
        Ok(())
    }

    async fn to_the_tail(&self, letter: &Delivery, row: Option<&Snapshot>) -> Result<(), SweepError> {
        match (&letter.content, row) {
            (Content::Message(message), Some(row)) => Ok(self.write(message, row.obituary()).await?),
            (Content::Foreign(error, body), _) => Ok(self.publisher.publish_undecodable(error, body).await?),
            (Content::Message(_), None) | (Content::Marker(_), _) => Ok(()),
        }
    }

    async fn write_missing(&self, kept: &Kept, swept: &mut Swept) -> Result<(), SweepError> {
        for endpoint in requeue::endpoints(&self.db).await? {
            let mut after = uuid::Uuid::nil();
            loop {
                let dead = requeue::keys(&self.db, endpoint, after, PAGE, self.grace).await?;
                let Some(last) = dead.last() else { break };
                after = last.0.event_id;
                let missing: Vec<DeliveryKey> = dead
                    .iter()
                    .filter(|(key, attempts)| kept.get(key) != Some(attempts))
                    .map(|(key, _)| *key)
                    .collect();
                self.write_letters(&missing, swept).await?;
            }
        }
        Ok(())
    }

    async fn write_letters(&self, missing: &[DeliveryKey], swept: &mut Swept) -> Result<(), SweepError> {
        for chunk in missing.chunks(CHUNK) {
            for (message, snapshot) in requeue::letters(&self.db, chunk).await? {
                match self.write(&message.asking_for(snapshot.row.attempts), snapshot.obituary()).await {
                    Ok(()) => swept.written += 1,
                    Err(PublishError::Refused(error)) => {
                        swept.refused += 1;
                        tracing::warn!(event_id = %message.event_id, endpoint_id = %message.endpoint_id, %error,
                            "the broker refuses the dead letter; the row stays dead and listed");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    async fn write(&self, message: &Message, obituary: Obituary) -> Result<(), PublishError> {
        let answer = self.publisher.publish(&[(Target::Dead(obituary), message)]).await.pop();
        answer.unwrap_or(Err(PublishError::Nacked))
    }
}
