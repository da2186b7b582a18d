//! Each event once: a row in the receiver's own PostgreSQL, written in the transaction that does the work.
//!
//! ```no_run
//! use posthaste::receiver::event::Event;
//! use posthaste::receiver::inbox::{Answer, Inbox, InboxError, Reply};
//!
//! async fn hook(inbox: &Inbox, pool: &sqlx::PgPool, event: &Event) -> Result<Reply, InboxError> {
//!     let handled = inbox
//!         .handle(pool, event, std::time::SystemTime::now(), async |transaction| {
//!             let insert = "insert into jobs (payload) values ($1)";
//!             sqlx::query(insert).bind(&event.body[..]).execute(transaction).await?;
//!             Ok::<_, sqlx::Error>(Answer::new(202))
//!         })
//!         .await?;
//!     Ok(handled.reply())
//! }
//! ```
//!
//! The row and the work are committed together, so a crash leaves both or neither: nothing has to be resumed, and nothing
//! that a dead process began is in the way. The primary key makes a second request for the event wait until the first one is
//! over; then it is a duplicate, or its turn. What the work does outside of the transaction is not undone: put it into a
//! table in here, and do it from there.

mod answer;
mod statements;

use std::time::{Duration, SystemTime};

use sqlx::postgres::PgConnection;
use sqlx::{Connection, PgPool, Postgres, Transaction};
use thiserror::Error;

pub use answer::{Answer, Handled, Reply};

use super::event::Event;

/// The table, for the receiver's migrations. It is found by the search path.
pub const SCHEMA: &str = include_str!("inbox/schema.sql");
/// How long an event is remembered unless set otherwise: longer than any sender may come again with it.
pub const DEFAULT_TTL: Duration = Duration::from_secs(30 * 24 * 3600);
/// How long a request waits for another one of the same event unless set otherwise. It holds a connection meanwhile.
pub const DEFAULT_WAIT: Duration = Duration::from_secs(2);
/// When to come again with an event that others are still at.
const BUSY_RETRY: Duration = Duration::from_secs(1);
/// What a request is answered whose work failed.
const FAILED_STATUS: u16 = 500;
/// Rows that one statement of a clean-up deletes.
const FORGET_AT_ONCE: i64 = 1000;

#[derive(Debug, Error)]
#[error("inbox: {0}")]
pub struct InboxError(#[from] sqlx::Error);

#[derive(Debug, Clone)]
pub struct Inbox {
    ttl: Duration,
    wait: Duration,
    keep_failed: bool,
}

impl Default for Inbox {
    fn default() -> Inbox {
        Inbox { ttl: DEFAULT_TTL, wait: DEFAULT_WAIT, keep_failed: false }
    }
}

impl Inbox {
    /// Not below twice the verifier's tolerance, or a replay is new again.
    pub fn with_ttl(self, ttl: Duration) -> Inbox {
        Inbox { ttl, ..self }
    }

    pub fn with_wait(self, wait: Duration) -> Inbox {
        Inbox { wait, ..self }
    }

    /// Body and signature of what fails stay in the table until it succeeds or its time is over, for `again`.
    pub fn keeping_failed(self) -> Inbox {
        Inbox { keep_failed: true, ..self }
    }

    /// All of it in a transaction of its own: when this returns, the event may be answered.
    pub async fn handle<E, F>(
        &self,
        pool: &PgPool,
        event: &Event,
        now: SystemTime,
        work: F,
    ) -> Result<Handled<E>, InboxError>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<Answer, E>,
    {
        let mut transaction = pool.begin().await?;
        let handled = self.process(&mut transaction, event, now, work).await?;
        match handled {
            Handled::Busy(_) => transaction.rollback().await?,
            _ => transaction.commit().await?,
        }
        Ok(handled)
    }

    /// In the caller's transaction, which should have done nothing before: after `Busy` it is of no use. Commit it, also
    /// after a failure, and answer then.
    pub async fn process<E, F>(
        &self,
        transaction: &mut Transaction<'_, Postgres>,
        event: &Event,
        now: SystemTime,
        work: F,
    ) -> Result<Handled<E>, InboxError>
    where
        F: AsyncFnOnce(&mut PgConnection) -> Result<Answer, E>,
    {
        match self.claim(transaction, event, now).await {
            Ok(true) => run(transaction, event, self.keep_failed, work).await,
            Ok(false) => Ok(Handled::Duplicate(statements::answered(transaction, &event.id).await?)),
            Err(error) if is_busy(&error) => Ok(Handled::Busy(BUSY_RETRY)),
            Err(error) => Err(error.into()),
        }
    }

    async fn claim(&self, c: &mut PgConnection, event: &Event, now: SystemTime) -> sqlx::Result<bool> {
        let before = statements::limit_waiting(c, self.wait).await?;
        let claimed = statements::claim(c, event, now.into(), self.ttl).await?;
        statements::wait_as_before(c, &before).await?;
        Ok(claimed)
    }

    /// Ids of events that failed and were kept, oldest first.
    pub async fn failed(&self, pool: &PgPool, limit: u16) -> Result<Vec<String>, InboxError> {
        Ok(statements::kept(&mut *pool.acquire().await?, limit.into()).await?)
    }

    /// Handles a failed event again from what was kept, without its sender. `None`: there is none, or somebody is at it. The
    /// signature was verified when the event came.
    pub async fn again<E, F>(&self, pool: &PgPool, id: &str, work: F) -> Result<Option<Handled<E>>, InboxError>
    where
        F: AsyncFnOnce(&mut PgConnection, &Event) -> Result<Answer, E>,
    {
        let mut transaction = pool.begin().await?;
        let Some(event) = statements::take_failed(&mut transaction, id).await? else { return Ok(None) };
        let handled = run(&mut transaction, &event, true, async |c| work(c, &event).await).await?;
        transaction.commit().await?;
        Ok(Some(handled))
    }

    /// Forgets the events whose time is over, failed ones too. Returns how many. Run it every hour or so.
    pub async fn clean_up(&self, pool: &PgPool, now: SystemTime) -> Result<u64, InboxError> {
        let mut connection = pool.acquire().await?;
        let mut forgotten = 0;
        loop {
            let some = statements::forget(&mut connection, now.into(), FORGET_AT_ONCE).await?;
            forgotten += some;
            if some < FORGET_AT_ONCE as u64 {
                return Ok(forgotten);
            }
        }
    }
}

/// A savepoint undoes the work that failed, and not the row that says so.
async fn run<E, F>(c: &mut PgConnection, event: &Event, keep_failed: bool, work: F) -> Result<Handled<E>, InboxError>
where
    F: AsyncFnOnce(&mut PgConnection) -> Result<Answer, E>,
{
    let mut savepoint = c.begin().await?;
    match work(&mut *savepoint).await {
        Ok(answer) => {
            savepoint.commit().await?;
            statements::done(c, &event.id, &answer).await?;
            Ok(Handled::Done(answer))
        }
        Err(error) => {
            savepoint.rollback().await?;
            statements::failed(c, event, FAILED_STATUS, keep_failed).await?;
            Ok(Handled::Failed(error))
        }
    }
}

/// Somebody has the row and keeps it (55P03), each waits for the other (40P01), or the isolation level forbids to look at
/// what the other has written (40001).
fn is_busy(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(|error| error.code());
    matches!(code.as_deref(), Some("55P03" | "40P01" | "40001"))
}
