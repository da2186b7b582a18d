//! Somebody else's session has an endpoint's row locked, while that endpoint fails: its circuit cannot be turned. The other
//! endpoints must not notice.

use std::time::Duration;

use sqlx::{Connection, PgConnection};

use super::{Verdict, really};
use crate::chaos::ledger::TYPES;
use crate::chaos::receiver::Manner;
use crate::chaos::schedule::{ENDPOINTS, Fault};
use crate::chaos::stack::Stack;
use crate::wait_for;

/// A delivery to another endpoint may take so long meanwhile, in seconds.
const PROMPT: f64 = 3.0;
/// What an earlier fault has left has to be worked off first.
const CALM: Duration = Duration::from_secs(20);
const LOOK_AGAIN: Duration = Duration::from_millis(200);

const LOCK: &str = "select 1 from posthaste.endpoints where id = $1 for update";
const WAITING: &str = "select count(*) from pg_stat_activity where pg_backend_pid() = any (pg_blocking_pids(pid))";

/// Deliveries to the other endpoints of what was committed while the row was locked.
struct Others {
    delivered: usize,
    /// The longest that one took, or has been waiting.
    slowest: f64,
}

pub async fn lock_endpoint(stack: &Stack, fault: Fault) -> Result<Verdict, String> {
    wait_for("an end of the backlog", CALM, async || is_calm(stack).await.then_some(())).await?;
    let before = stack.receiver.treated(fault.target, Manner::Fail);
    stack.receiver.behave(fault.target, Manner::Fail);
    let locked = while_locked(stack, fault).await;
    stack.receiver.behave(fault.target, Manner::Accept);
    let (waiting, others) = locked.map_err(|error| error.to_string())?;
    really(stack.receiver.treated(fault.target, Manner::Fail) > before, "no request came")?;
    really(others.delivered > 0, "nothing was owed to the other endpoints")?;
    let seen = format!(
        "{} deliveries to the other endpoints meanwhile, the slowest took {:.1} s; {waiting} statements waited at once",
        others.delivered, others.slowest
    );
    Ok(Verdict::bounded(seen, others.slowest <= PROMPT))
}

async fn is_calm(stack: &Stack) -> bool {
    let behind = "select (select count(*) from posthaste.outbox where created_at < now() - interval '1 second')
        + (select count(*) from posthaste.deliveries where status = 'pending' and created_at < now() - interval '1 second')";
    sqlx::query_scalar(behind).fetch_one(&stack.db).await.is_ok_and(|behind: i64| behind == 0)
}

/// The most statements that waited for the lock at once, and how the others fared.
async fn while_locked(stack: &Stack, fault: Fault) -> sqlx::Result<(i64, Others)> {
    let mut session = PgConnection::connect(&stack.database_url).await?;
    let mut transaction = session.begin().await?;
    sqlx::query(LOCK).bind(stack.endpoints[fault.target]).execute(&mut *transaction).await?;
    let began = stack.clock.now();
    let mut most = 0;
    while stack.clock.now() - began < fault.hold.as_secs_f64() {
        most = most.max(sqlx::query_scalar(WAITING).fetch_one(&mut *transaction).await?);
        // The lock is held for that long.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    let others = others(stack, fault.target, began);
    transaction.rollback().await?;
    session.close().await?;
    Ok((most, others))
}

fn others(stack: &Stack, locked: usize, began: f64) -> Others {
    let now = stack.clock.now();
    let (books, notes) = (stack.ledger.books(), stack.receiver.notes());
    let mut others = Others { delivered: 0, slowest: 0.0 };
    for (id, committed) in books.committed.iter().filter(|(_, committed)| committed.at >= began) {
        let takers = (0..ENDPOINTS).filter(|endpoint| TYPES[committed.event_type].1[*endpoint] && *endpoint != locked);
        for endpoint in takers {
            let first = notes.records.get(&(*id, endpoint)).and_then(|record| record.first);
            others.delivered += usize::from(first.is_some());
            others.slowest = others.slowest.max(first.unwrap_or(now) - committed.at);
        }
    }
    others
}
