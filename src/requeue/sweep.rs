//! The sweep of the dead-letter queue: afterwards it holds exactly what is still dead.
//!
//! The queue is a view of the rows that are `dead`; PostgreSQL decides. Dead letters whose row has moved on, older dead letters and
//! doubled ones are acknowledged; a dead letter that is missing is written again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::error::RequeueError;
use crate::broker::connection::Link;
use crate::broker::consumer::{Content, Incoming};
use crate::broker::dead_letters::Pass;
use crate::broker::declare::message_count;
use crate::broker::publisher::{Publisher, Target};
use crate::broker::topology::Names;
use crate::broker::{self};
use crate::domain::dead_reason::DeadReason;
use crate::domain::delivery::Status;
use crate::domain::ids::DeliveryKey;
use crate::domain::message::Message;
use crate::relay::dead_letters;
use crate::store::Db;
use crate::store::dead_endpoints;
use crate::store::deliveries::{self, Snapshot};
use crate::store::requeue::{self, Filter};

/// A worker writes the dead letter right after the row; this is ample for it.
pub const GRACE: Duration = Duration::from_secs(2);
/// Dead letters in hand at once.
const PASS: u16 = 250;
/// Dead letters looked at with one statement.
const CHUNK: usize = 100;
const PAGE: i64 = 500;
/// Passes over a long queue whose channels are kept open.
const OPEN_PASSES: usize = 8;
/// Passes over a short queue until none has anything left to drop.
const REPEATS: u32 = 10;

pub struct Sweep {
    pub db: Db,
    pub broker: broker::Settings,
    pub names: Names,
    pub publisher: Publisher,
    /// What died more recently may still be getting its dead letter from its worker.
    pub grace: Duration,
}

/// An account of what was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Swept {
    /// Dead letters whose delivery is dead.
    pub kept: u64,
    /// Dead letters that said nothing new: the delivery lives, died again later, or had a dead letter already.
    pub dropped: u64,
    /// Dead letters that were missing.
    pub written: u64,
    /// Of those dropped, the ones whose delivery is erased.
    pub erased: u64,
    /// Dead letters that the broker refuses to take, for example because the payload is too large for it.
    pub refused: u64,
}

/// Dead letters: delivery -> the attempts that its dead letter was written for.
type DeadLetters = HashMap<DeliveryKey, i32>;

#[derive(Default)]
struct Found {
    /// Those that stay.
    kept: DeadLetters,
    /// Those that took the place of one of the broker's own. They are at the tail, and may be met there or not.
    replaced: DeadLetters,
    /// Those that are gone for good.
    erased: HashSet<DeliveryKey>,
}

impl Found {
    /// The dead letter is one that this sweep wrote in the place of another.
    fn has_written(&self, dead_letter: &Incoming) -> bool {
        let key = dead_letter.content.message().map(Message::key);
        dead_letter.dead_letter_attempts.is_some() && key.is_some_and(|key| self.replaced.contains_key(&key))
    }

    fn has(&self, key: &DeliveryKey, attempts: i32) -> bool {
        [&self.kept, &self.replaced].iter().any(|known| known.get(key) == Some(&attempts))
    }
}

impl Sweep {
    pub async fn run(&self) -> Result<Swept, RequeueError> {
        let mut swept = Swept::default();
        let mut found = Found::default();
        self.look_through(&mut found, &mut swept).await?;
        swept.erased = found.erased.len() as u64;
        self.write_missing(&found, &mut swept).await?;
        Ok(swept)
    }

    /// Every dead letter that is there is looked at once, in bounded passes.
    async fn look_through(&self, found: &mut Found, swept: &mut Swept) -> Result<(), RequeueError> {
        let link = Arc::new(Link::open(&self.broker, "posthaste sweep").await?);
        let count = message_count(&link, &self.names.dead()).await?.unwrap_or(0);
        if count <= u32::from(PASS) {
            self.take_and_return(&link, count, found, swept).await?;
        } else {
            self.rotate(&link, count, found, swept).await?;
        }
        link.close().await;
        Ok(())
    }

    /// A queue that one pass can hold: what stays is returned to its place by closing the channel.
    ///
    /// The broker may forget acknowledgements that are on their way when a channel closes, so the pass is repeated until
    /// there was nothing to drop.
    async fn take_and_return(
        &self,
        link: &Arc<Link>,
        count: u32,
        found: &mut Found,
        swept: &mut Swept,
    ) -> Result<(), RequeueError> {
        let mut there = u64::from(count);
        for _ in 0..REPEATS {
            found.kept.clear();
            let mut pass = Pass::open(link.clone(), &self.names.dead(), PASS).await?;
            let (mut seen, mut own, mut dropped) = (0, 0, 0);
            loop {
                let dead_letters = pass.next(CHUNK).await?;
                if dead_letters.is_empty() {
                    break;
                }
                seen += dead_letters.len() as u64;
                for (dead_letter, row) in self.with_rows(dead_letters).await? {
                    own += u64::from(found.has_written(&dead_letter));
                    if !self.stays(&dead_letter, row.as_ref(), found).await? {
                        dropped += 1;
                        pass.acknowledger().ack(dead_letter.tag, false).await?;
                    }
                }
            }
            pass.close().await;
            there = there.max(seen - own);
            swept.kept = seen - dropped;
            if dropped == 0 {
                break;
            }
        }
        swept.dropped = (there + found.replaced.len() as u64).saturating_sub(swept.kept);
        Ok(())
    }

    /// A longer queue: what stays goes to the tail, confirmed, and its place is acknowledged. A crash in between doubles a
    /// dead letter, and the next sweep drops the second one.
    async fn rotate(
        &self,
        link: &Arc<Link>,
        count: u32,
        found: &mut Found,
        swept: &mut Swept,
    ) -> Result<(), RequeueError> {
        let mut to_see = count as usize;
        // Channels stay open for a while: closing one at once could lose its last acknowledgement.
        let mut passes = VecDeque::new();
        while to_see > 0 {
            let mut pass = Pass::open(link.clone(), &self.names.dead(), PASS).await?;
            let dead_letters = pass.next(to_see.min(PASS.into())).await?;
            // Nothing more is taken while these are acknowledged, or rotated dead letters would come round too early.
            pass.cancel().await?;
            let Some(last) = dead_letters.last().map(|dead_letter| dead_letter.tag) else { break };
            to_see -= dead_letters.len();
            let seen = dead_letters.len() as u64;
            let mut staying = Vec::new();
            for (dead_letter, row) in self.with_rows(dead_letters).await? {
                if self.stays(&dead_letter, row.as_ref(), found).await? {
                    staying.push((dead_letter, row));
                }
            }
            swept.kept += staying.len() as u64;
            swept.dropped += seen - staying.len() as u64;
            self.to_the_tail(&staying).await?;
            pass.acknowledger().ack(last, true).await?;
            passes.push_back(pass);
            if passes.len() > OPEN_PASSES
                && let Some(oldest) = passes.pop_front()
            {
                oldest.close().await;
            }
        }
        for pass in passes {
            pass.close().await;
        }
        swept.kept += found.replaced.len() as u64;
        Ok(())
    }

    /// Rows are read after their dead letters were received: a dead letter that is dropped is dropped for what the row says now.
    async fn with_rows(&self, dead_letters: Vec<Incoming>) -> Result<Vec<(Incoming, Option<Snapshot>)>, RequeueError> {
        let keys: Vec<DeliveryKey> =
            dead_letters.iter().filter_map(|l| l.content.message().map(Message::key)).collect();
        let rows = deliveries::read(&self.db, &keys).await?;
        let rows: HashMap<DeliveryKey, Snapshot> = rows.into_iter().map(|row| (row.key, row)).collect();
        let row_of = |dead_letter: &Incoming| {
            dead_letter.content.message().and_then(|message| rows.get(&message.key())).cloned()
        };
        let with_row = |dead_letter| {
            let row = row_of(&dead_letter);
            (dead_letter, row)
        };
        Ok(dead_letters.into_iter().map(with_row).collect())
    }

    async fn stays(
        &self,
        dead_letter: &Incoming,
        row: Option<&Snapshot>,
        found: &mut Found,
    ) -> Result<bool, RequeueError> {
        let message = match &dead_letter.content {
            Content::Message(message) => message,
            // A marker that was handed out too often; newer ones have taken its place.
            Content::Marker(_) => return Ok(false),
            // What is no message of ours has no row to ask; an operator decides about it.
            Content::Foreign(..) => return Ok(true),
        };
        let Some(attempts) = dead_letter.dead_letter_attempts else {
            self.end_poison(message, found).await?;
            return Ok(false);
        };
        if row.is_some_and(|row| row.row.is_erased()) {
            found.erased.insert(message.key());
            return Ok(false);
        }
        let is_current = row.is_some_and(|row| row.row.status == Status::Dead && row.row.attempts == attempts);
        Ok(is_current && found.kept.insert(message.key(), attempts).is_none())
    }

    /// The broker's own dead letter: the message was handed out too often. Its delivery ends as poison and gets a dead letter of ours
    /// at once: the broker's own one is not acknowledged before. Where the row has moved on, it was the last copy of nothing.
    async fn end_poison(&self, message: &Message, found: &mut Found) -> Result<(), RequeueError> {
        let error = Some("the broker handed the message out too often");
        let ended = deliveries::mark_dead(&self.db, message.key(), message.attempt, DeadReason::Poison, error).await?;
        if let Some(row) = ended {
            let dead_letter = message.asking_for(row.row.attempts);
            self.write(&[(Target::Dead(row.dead_letter_headers()), &dead_letter)]).await?;
            found.replaced.insert(row.key, row.row.attempts);
        }
        Ok(())
    }

    /// All of a pass with one wait for the confirms.
    async fn to_the_tail(&self, staying: &[(Incoming, Option<Snapshot>)]) -> Result<(), RequeueError> {
        let mut dead_letters = Vec::new();
        for (dead_letter, row) in staying {
            match (&dead_letter.content, row) {
                (Content::Message(message), Some(row)) => {
                    dead_letters.push((Target::Dead(row.dead_letter_headers()), message))
                }
                (Content::Foreign(error, body), _) => self.publisher.publish_undecodable(error, body).await?,
                (Content::Message(_), None) | (Content::Marker(_), _) => {}
            }
        }
        self.write(&dead_letters).await
    }

    async fn write_missing(&self, found: &Found, swept: &mut Swept) -> Result<(), RequeueError> {
        for endpoint in dead_endpoints::that_match(&self.db, &Filter::default()).await? {
            let mut after = uuid::Uuid::nil();
            loop {
                let dead = requeue::keys(&self.db, endpoint, after, PAGE, self.grace).await?;
                let Some(last) = dead.last() else { break };
                after = last.0.event_id;
                let missing: Vec<DeliveryKey> =
                    dead.iter().filter(|(key, attempts)| !found.has(key, *attempts)).map(|(key, _)| *key).collect();
                self.write_dead_letters(&missing, swept).await?;
            }
        }
        Ok(())
    }

    async fn write_dead_letters(&self, missing: &[DeliveryKey], swept: &mut Swept) -> Result<(), RequeueError> {
        for chunk in missing.chunks(CHUNK) {
            let dead = requeue::dead_letters(&self.db, chunk).await?;
            let dead_letters: Vec<(Target, Message)> = dead
                .into_iter()
                .map(|(message, row)| (Target::Dead(row.dead_letter_headers()), message.asking_for(row.row.attempts)))
                .collect();
            let dead_letters: Vec<(Target, &Message)> =
                dead_letters.iter().map(|(target, message)| (target.clone(), message)).collect();
            let refused = dead_letters::write_all(&self.publisher, &dead_letters).await?;
            swept.written += (dead_letters.len() - refused.len()) as u64;
            swept.refused += refused.len() as u64;
            for (place, error) in refused {
                let message = dead_letters[place].1;
                tracing::warn!(event_id = %message.event_id, endpoint_id = %message.endpoint_id, %error,
                    "the broker refuses the dead letter; the row stays dead and listed");
            }
        }
        Ok(())
    }

    /// Dead letters whose place in the queue is given up: each must be confirmed.
    async fn write(&self, dead_letters: &[(Target, &Message)]) -> Result<(), RequeueError> {
        match dead_letters::write_all(&self.publisher, dead_letters).await?.into_iter().next() {
            Some((_, error)) => Err(error.into()),
            None => Ok(()),
        }
    }
}
