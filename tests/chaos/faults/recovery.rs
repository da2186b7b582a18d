//! When everything works again after a fault.

use std::time::Duration;

use crate::ledger::unix_ms;
use crate::schedule::{ENDPOINTS, Fault};
use crate::service::Service;
use crate::stack::Stack;

const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Until an event made from now on was delivered.
pub async fn flows(stack: &Stack, fault: Fault) {
    let since = unix_ms();
    let endpoints = if fault.kind.is_receiver() { fault.target..fault.target + 1 } else { 0..ENDPOINTS };
    while endpoints.clone().all(|endpoint| stack.receiver.newest_ms(endpoint) <= since) {
        // The receiver is asked often instead of waking everybody at each request.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Until every affected process has done some work again.
pub async fn works(stack: &Stack, fault: Fault) {
    let affected: Vec<&Service> = match fault.process() {
        Some(number) => vec![&stack.services[number]],
        None if fault.kind.is_receiver() => vec![],
        None => stack.services.iter().map(AsRef::as_ref).collect(),
    };
    futures_util::future::join_all(affected.into_iter().map(works_again)).await;
}

async fn works_again(service: &Service) {
    let before = service.work_done().await.unwrap_or(0.0);
    while service.work_done().await.is_none_or(|done| done <= before) {
        // Its metrics are what it says about itself.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
