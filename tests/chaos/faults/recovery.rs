//! When everything works again after a fault.

use std::time::Duration;

use uuid::Uuid;

use crate::chaos::kind::Kind;
use crate::chaos::ledger::unix_ms;
use crate::chaos::schedule::{ENDPOINTS, Fault};
use crate::chaos::service::Service;
use crate::chaos::stack::Stack;

const LOOK_AGAIN: Duration = Duration::from_millis(50);
const ANSWER: Duration = Duration::from_secs(5);

/// Until an event made from now on was delivered.
pub async fn flows(stack: &Stack, fault: Fault) {
    let since = unix_ms();
    let endpoints = if fault.kind.is_receiver() { fault.target..fault.target + 1 } else { 0..ENDPOINTS };
    while endpoints.clone().all(|endpoint| stack.receiver.newest_ms(endpoint) <= since) {
        // The receiver is asked often instead of waking everybody at each request.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Until every affected process has done some work again, and what was held over the fault is done.
pub async fn works(stack: &Stack, fault: Fault) {
    let held_is_done = async {
        if matches!(fault.kind, Kind::AlarmWhileFailing | Kind::ForbidDelayQueue) {
            held_is_done(stack).await;
        }
    };
    tokio::join!(processes_work(stack, fault), held_is_done);
}

async fn processes_work(stack: &Stack, fault: Fault) {
    let affected: Vec<&Service> = match fault.process() {
        Some(number) => vec![&stack.services[number]],
        None if fault.kind.is_receiver() => vec![],
        None => stack.services.iter().map(AsRef::as_ref).collect(),
    };
    futures_util::future::join_all(affected.into_iter().map(works_again)).await;
}

async fn works_again(service: &Service) {
    let mut before = service.work_done().await.unwrap_or(0.0);
    loop {
        match service.work_done().await {
            Some(done) if done > before => return,
            // Another fault has started it again meanwhile: it counts from nothing.
            Some(done) => before = done,
            None => {}
        }
        // Its metrics are what it says about itself.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Until nothing is unfinished any more of what is held now.
async fn held_is_done(stack: &Stack) {
    let held = "select event_id from posthaste.deliveries where status = 'held'";
    let held = answer(async || sqlx::query_scalar::<_, Uuid>(held).fetch_all(&stack.db).await.ok()).await;
    let open = "select count(*) from posthaste.deliveries
        where event_id = any ($1) and status in ('pending', 'retrying', 'held')";
    answer(async || {
        let open = sqlx::query_scalar::<_, i64>(open).bind(&held).fetch_one(&stack.db).await.ok()?;
        (open == 0).then_some(())
    })
    .await;
}

/// Asks until there is an answer. A server that dies or starts meanwhile may leave a question unanswered.
async fn answer<T>(ask: impl AsyncFn() -> Option<T>) -> T {
    loop {
        if let Ok(Some(answer)) = tokio::time::timeout(ANSWER, ask()).await {
            return answer;
        }
        // Asking is the only signal that there is.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
