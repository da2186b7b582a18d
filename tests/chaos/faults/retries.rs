//! The endpoints refuse some of the events while the broker takes none of their retries: PostgreSQL has to keep these.

use std::time::Duration;

use super::Verdict;
use super::queues::delete_fullest;
use crate::chaos::kind::Role;
use crate::chaos::receiver::Manner;
use crate::chaos::schedule::ENDPOINTS;
use crate::chaos::stack::Stack;
use crate::wait_for;

/// So long the endpoints fail before that, so that retries are in the delay queues and become due meanwhile.
const FILL: Duration = Duration::from_millis(2_500);
/// What could not be undone would be in the way of every fault after it.
const TRIES_TO_UNDO: u32 = 5;
/// So long the broker is asked for a delay queue with something in it.
const FIND: Duration = Duration::from_secs(3);

/// The broker has a memory alarm, and takes nothing that is published.
pub async fn alarm(stack: &Stack, hold: Duration) -> Result<Verdict, String> {
    while_refusing(stack, async |refused| {
        let rabbitmq = stack.rabbitmq.lock().await;
        rabbitmq.memory_alarm(true).await?;
        let before = refused();
        // The alarm lasts for that long, or until it was seen.
        let (alarmed, ()) = tokio::join!(rabbitmq.is_alarmed(), tokio::time::sleep(hold));
        let meanwhile = refused() - before;
        undo("the alarm could not be ended", async || rabbitmq.memory_alarm(false).await).await?;
        if alarmed? { Ok(meanwhile) } else { Err("the broker had no alarm".to_owned()) }
    })
    .await
}

/// A delay queue is gone, and the user of relays and workers may not declare it.
pub async fn forbid_delay_queue(stack: &Stack, hold: Duration) -> Result<Verdict, String> {
    while_refusing(stack, async |refused| {
        stack.rabbitmq.lock().await.may_declare(false).await?;
        let before = refused();
        let delete = async || delete_fullest(stack, true).await.ok();
        let deleted = wait_for("something in a delay queue", FIND, delete).await;
        // It is missing for that long.
        tokio::time::sleep(hold).await;
        let meanwhile = refused() - before;
        let allow = async || stack.rabbitmq.lock().await.may_declare(true).await;
        undo("the right to declare could not be given back", allow).await?;
        deleted.map(|()| meanwhile)
    })
    .await
}

/// Counts when the endpoints refused something meanwhile, and a worker held a retry since the broker did not take it.
async fn while_refusing(
    stack: &Stack,
    trouble: impl AsyncFnOnce(&dyn Fn() -> u64) -> Result<u64, String>,
) -> Result<Verdict, String> {
    let refused = || (0..ENDPOINTS).map(|endpoint| stack.receiver.treated(endpoint, Manner::Fail)).sum();
    let behave = |manner| (0..ENDPOINTS).for_each(|endpoint| stack.receiver.behave(endpoint, manner));
    behave(Manner::FailSome);
    // Nothing says that enough of them wait.
    tokio::time::sleep(FILL).await;
    let held_before = held(stack).await;
    let meanwhile = trouble(&refused).await;
    behave(Manner::Accept);
    let held = held(stack).await.iter().zip(held_before).map(|(now, before)| (now - before).max(0.0)).sum::<f64>();
    match meanwhile? {
        0 => Err("no request came that was refused".to_owned()),
        _ if held == 0.0 => Err("no retry was held".to_owned()),
        refused => Ok(Verdict::of(format!("{refused} requests refused meanwhile, {held:.0} retries held by workers"))),
    }
}

/// By worker. One that was started again counts from nothing, and one that does not answer has held nothing.
async fn held(stack: &Stack) -> Vec<f64> {
    let mut held = Vec::new();
    for worker in stack.services.iter().filter(|service| service.role == Role::Worker) {
        held.push(worker.held_for_our_fault().await.unwrap_or(0.0));
    }
    held
}

async fn undo(otherwise: &str, mut undo: impl AsyncFnMut() -> Result<(), String>) -> Result<(), String> {
    for _ in 0..TRIES_TO_UNDO {
        if undo().await.is_ok() {
            return Ok(());
        }
    }
    Err(otherwise.to_owned())
}
