//! Falling asleep without missing a commit, and waking up.
//!
//! Awake, the relay polls. Before it sleeps it sets the flag that makes producers notify, and then waits until every
//! transaction that may have read the old flag has ended; a claim after that sees all their rows.

use std::time::{Duration, Instant};

use crate::store::wake::{self, Alarm, OUTBOX, Wake};
use crate::store::{Db, StoreError};

/// Empty polls before the relay prepares to sleep.
const EMPTY_POLLS: u32 = 20;
/// The barrier is polled fast for this long, then slowly: a transaction may stay open for hours.
const FAST: Duration = Duration::from_secs(1);
const SLOW_POLL: Duration = Duration::from_millis(100);
/// A sleeping relay looks by itself this often; it finds what a relay that died awake left unannounced.
const SLEEP: Duration = Duration::from_secs(1);

/// After sleep has failed.
const SLEEPLESS: Duration = Duration::from_secs(2);

enum State {
    Awake {
        empty: u32,
    },
    /// The flag is set; transactions older than the barrier may still not have seen it.
    Barrier {
        xid: i64,
        since: Instant,
    },
    Asleep,
}

pub(super) struct Idle {
    db: Db,
    /// Sleep on LISTEN; otherwise poll all the time.
    listen: bool,
    poll_interval: Duration,
    state: State,
    alarm: Option<Alarm>,
    /// When the flag was last set. It ends by itself, so it is set again until this relay is awake.
    flagged: Instant,
    /// Until then it does not try to sleep again.
    sleepless: Option<Instant>,
}

impl Idle {
    pub fn new(db: Db, listen: bool, poll_interval: Duration) -> Idle {
        let (state, flagged) = (State::Awake { empty: 0 }, Instant::now());
        Idle { db, listen, poll_interval, state, alarm: None, flagged, sleepless: None }
    }

    /// Before and during sleep only a full scan proves that nothing is there.
    pub fn wants_scan(&self) -> bool {
        !matches!(self.state, State::Awake { .. })
    }

    /// A claim found rows.
    pub async fn busy(&mut self) {
        if !matches!(self.state, State::Awake { .. }) {
            self.say_awake().await;
        }
        self.wake();
    }

    /// A flag that stays ends by itself.
    async fn say_awake(&self) {
        if let Err(error) = wake::awake(&self.db).await {
            tracing::debug!(%error, "producers go on notifying for a moment");
        }
    }

    /// The listener goes with the sleep: what it heard before would only wake the next one, and a relay that is busy for
    /// hours must not leave PostgreSQL's queue of notifications unread.
    fn wake(&mut self) {
        self.alarm = None;
        self.state = State::Awake { empty: 0 };
    }

    /// A claim found nothing: wait a little, or take the next step towards sleep. A relay that cannot sleep polls.
    pub async fn empty(&mut self, scanned: bool) {
        if let Err(error) = self.step(scanned).await {
            tracing::warn!(%error, "cannot sleep until producers notify; polling for a while");
            self.wake();
            self.sleepless = Some(Instant::now() + SLEEPLESS);
        }
    }

    fn may_sleep(&self) -> bool {
        self.listen && self.sleepless.is_none_or(|until| Instant::now() >= until)
    }

    async fn step(&mut self, scanned: bool) -> Result<(), StoreError> {
        let poll = self.poll_interval;
        match self.state {
            State::Awake { empty } if empty < EMPTY_POLLS => {
                self.state = State::Awake { empty: empty + 1 };
                tokio::time::sleep(poll).await;
            }
            State::Awake { .. } if !self.may_sleep() => tokio::time::sleep(poll.max(SLOW_POLL)).await,
            State::Awake { .. } => self.set_flag().await?,
            State::Barrier { xid, since } => {
                // The claim that has just found nothing counts only if it began after the barrier was passed; so the
                // next state is entered here and the sleep comes after one more empty scan.
                if wake::passed(&self.db, xid).await? {
                    self.state = State::Asleep;
                } else {
                    if self.flagged.elapsed() >= SLEEP {
                        self.flag().await?;
                    }
                    tokio::time::sleep(if since.elapsed() < FAST { poll } else { SLOW_POLL }).await;
                }
            }
            State::Asleep if scanned => self.sleep().await?,
            State::Asleep => {}
        }
        Ok(())
    }

    /// Listens first, so that a notification sent right after the flag is set is heard.
    async fn set_flag(&mut self) -> Result<(), StoreError> {
        self.alarm = Some(Alarm::listen(&self.db, OUTBOX).await?);
        self.flag().await?;
        let xid = wake::barrier(&self.db).await?;
        self.state = State::Barrier { xid, since: Instant::now() };
        Ok(())
    }

    async fn flag(&mut self) -> Result<(), StoreError> {
        self.flagged = Instant::now();
        wake::sleeping(&self.db).await
    }

    async fn sleep(&mut self) -> Result<(), StoreError> {
        let Some(alarm) = &mut self.alarm else {
            self.state = State::Awake { empty: EMPTY_POLLS };
            return Ok(());
        };
        match alarm.wait(SLEEP).await {
            Ok(Wake::Notified(_) | Wake::Reconnected) => {
                self.wake();
                self.say_awake().await;
                Ok(())
            }
            // It would end by itself, and another relay that was awake may have cleared it and died.
            Ok(Wake::TimedOut) => self.flag().await,
            Err(error) => Err(error),
        }
    }

    /// At the end: a relay that is gone must not keep producers notifying. Others set the flag again when they sleep.
    pub async fn awake(self) {
        if !matches!(self.state, State::Awake { .. }) {
            self.say_awake().await;
        }
    }
}
