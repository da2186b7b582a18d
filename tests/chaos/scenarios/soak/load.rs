//! Very many events: large transactions, as fast as what they owe is delivered.

use std::time::Duration;

use uuid::Uuid;

use crate::chaos::ledger::{FOR_TWO, TENANT, TYPES};
use crate::chaos::producers::{Draft, Producer};
use crate::chaos::run::Running;

/// Events in one transaction.
const BULK: u64 = 500;
/// Events that may be committed and not sent yet.
const AHEAD: u64 = 5_000;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Commits so many events, each for one endpoint, in turn.
pub async fn in_bulk(running: &Running, events: u64) {
    let stack = &running.stack;
    let producer = Producer::new(&stack.database_url, TENANT, running.ledger.clone(), stack.clock, stack.pause.clone());
    let sent = || stack.receiver.notes().records.len() as u64;
    let (before, mut committed) = (sent(), 0);
    while committed < events {
        while committed > (sent() - before) + AHEAD {
            // The receiver is asked often instead of waking somebody at each request.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let count = BULK.min(events - committed);
        let drafts = (committed..committed + count).map(|number| for_one(number as usize));
        producer.commit(drafts.collect(), Duration::ZERO).await;
        committed += count;
    }
}

/// Commits some events of one type for another tenant.
pub async fn of_guest(running: &Running, tenant: &str, event_type: usize, events: usize) {
    let stack = &running.stack;
    let producer = Producer::new(&stack.database_url, tenant, running.ledger.clone(), stack.clock, stack.pause.clone());
    let drafts = (0..events).map(|_| Draft::new(Uuid::now_v7(), event_type));
    producer.commit(drafts.collect(), Duration::ZERO).await;
}

fn for_one(number: usize) -> Draft {
    Draft::new(Uuid::now_v7(), FOR_TWO + number % (TYPES.len() - FOR_TWO))
}
