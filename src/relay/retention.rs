//! Retention: days of history that are old enough end. What is unfinished in them is ended first, with dead letters; then the
//! day is detached, and dropped. The leader does it again and again, and `posthaste history drop` once.
//!
//! Each step is committed before the next one, and what is half done is found by the next one who looks.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::dead_letters;
use crate::broker::publisher::Publisher;
use crate::domain::dead_reason::DeadReason;
use crate::domain::retention::{Pin, Rule, Verdict};
use crate::store::days::Day;
use crate::store::history::Dropping;
use crate::store::{Db, StoreError, held, history};
use crate::telemetry::metrics;

/// Deliveries ended with one statement; they are in memory with their payloads until their dead letters are written.
const BATCH: u32 = 100;
/// How often it is tried to get the locks of a day at once, and the pause between: whoever waits behind a try goes on then.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

pub struct Retention {
    pub db: Db,
    pub publisher: Publisher,
    pub rule: Rule,
}

/// What became of a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    Dropped,
    /// Not yet old enough, or something in it was ended a moment ago.
    Waits,
    Pinned(Pin),
}

impl Retention {
    /// Everything that can end now ends.
    pub(super) async fn step(&self) -> Result<(), StoreError> {
        self.finish_detached().await?;
        let mut pinned: HashMap<Pin, u64> = HashMap::new();
        let mut overdue_ms = 0;
        for day in held::days(&self.db).await? {
            let now_ms = history::now_ms(&self.db).await?;
            if !self.rule.is_over(day.end_ms(), now_ms) {
                break;
            }
            let ended = self.end(day).await?;
            if let Ended::Pinned(pin) = ended {
                tracing::warn!(day = %day.date(), reason = pin.as_str(), "a day of history is kept beyond the retention");
                *pinned.entry(pin).or_default() += 1;
            }
            if ended != Ended::Dropped {
                let facts = history::facts(&self.db, day).await?;
                overdue_ms = overdue_ms.max(now_ms - self.rule.due_ms(day.end_ms(), &facts));
            }
        }
        metrics::retention(Duration::from_millis(overdue_ms.unsigned_abs()), &pinned);
        Ok(())
    }

    /// Ends one day, as far as it may.
    pub async fn end(&self, day: Day) -> Result<Ended, StoreError> {
        loop {
            let facts = history::facts(&self.db, day).await?;
            match self.rule.judge(day.end_ms(), &facts, history::now_ms(&self.db).await?) {
                Verdict::Wait => return Ok(Ended::Waits),
                Verdict::Pinned(pin) => return Ok(Ended::Pinned(pin)),
                // What is left is on its way just now.
                Verdict::Expire if self.expire(day).await? == 0 => return Ok(Ended::Pinned(Pin::Unfinished)),
                Verdict::Expire => {}
                Verdict::Drop => return self.drop(day).await,
            }
        }
    }

    async fn expire(&self, day: Day) -> Result<u64, StoreError> {
        let mut all = 0;
        loop {
            let ended = history::expire(&self.db, day, self.rule.grace_ms, BATCH).await?;
            if ended.is_empty() {
                return Ok(all);
            }
            all += ended.len() as u64;
            ended.iter().for_each(|_| metrics::dead_letter(DeadReason::Expired));
            tracing::warn!(day = %day.date(), deliveries = ended.len(), "dead: unfinished when their day of history ended");
            dead_letters::write(&self.publisher, ended).await;
        }
    }

    async fn drop(&self, day: Day) -> Result<Ended, StoreError> {
        for _ in 0..TRIES {
            match history::detach(&self.db, day).await {
                Ok(Some(pin)) => return Ok(Ended::Pinned(pin)),
                Ok(None) => return self.drop_detached(day).await,
                Err(error) if error.is_locked() => tokio::time::sleep(PAUSE).await,
                Err(error) => return Err(error),
            }
        }
        Ok(Ended::Pinned(Pin::Locked))
    }

    /// Days that somebody has detached and not dropped, since it died in between or had to give up.
    pub async fn finish_detached(&self) -> Result<(), StoreError> {
        for day in history::detached(&self.db).await? {
            self.drop_detached(day).await?;
        }
        Ok(())
    }

    async fn drop_detached(&self, day: Day) -> Result<Ended, StoreError> {
        let mut tries = 0;
        while tries < TRIES {
            let began = Instant::now();
            match history::drop_detached(&self.db, day).await {
                // Or somebody else, a leader or a command, has dropped it meanwhile.
                Ok(Dropping::Attached) if history::exists(&self.db, day).await? => return Ok(Ended::Waits),
                Ok(Dropping::Attached) => return Ok(Ended::Dropped),
                // Commits may have waited for the file system: they have as much time again.
                Ok(Dropping::Goes) => tokio::time::sleep(began.elapsed()).await,
                Ok(Dropping::Gone) => {
                    metrics::day_dropped();
                    tracing::info!(day = %day.date(), "a day of history was dropped");
                    return Ok(Ended::Dropped);
                }
                Err(error) if error.is_locked() => {
                    tries += 1;
                    tokio::time::sleep(PAUSE).await;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Ended::Pinned(Pin::Locked))
    }
}
