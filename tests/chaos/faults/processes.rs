//! A process dies, is stopped, or stands still.

use std::time::Duration;

use super::{Verdict, really};
use crate::chaos::service::Service;

const NOT_RUNNING: &str = "it was not running";

pub async fn kill(service: &Service, hold: Duration) -> Result<Verdict, String> {
    let was_running = service.kill().await;
    // It is down for that long.
    tokio::time::sleep(hold).await;
    service.start().await;
    really(was_running, NOT_RUNNING)
}

pub async fn stop(service: &Service) -> Result<Verdict, String> {
    let was_running = service.stop().await;
    service.start().await;
    really(was_running, NOT_RUNNING)
}

pub async fn freeze(service: &Service, hold: Duration) -> Result<Verdict, String> {
    let was_running = service.freeze(true).await;
    // It stands still for that long.
    tokio::time::sleep(hold).await;
    really(service.freeze(false).await && was_running, NOT_RUNNING)
}
