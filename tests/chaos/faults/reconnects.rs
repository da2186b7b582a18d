//! A process is asked to stop while it has lost a server and tries to connect again.

use std::time::{Duration, Instant};

use super::{Verdict, really};
use crate::chaos::kind::Server;
use crate::chaos::proxy::Mode;
use crate::chaos::service::Service;
use crate::chaos::stack::GRACE;
use crate::wait_for;

/// For noticing that the server is gone: the database is asked every two seconds.
const NOTICE: Duration = Duration::from_secs(10);
/// Beyond the grace period: for what is abandoned then, and for a busy machine.
const LAST_WORDS: Duration = Duration::from_secs(5);

pub async fn stop(service: &Service, server: Server, hold: Duration) -> Result<Verdict, String> {
    let proxy = service.proxy(server);
    proxy.set(Mode::Cut);
    let lost = async || service.lacks(server).await.filter(|lost| *lost).map(drop);
    let reconnecting = wait_for("a reconnect", NOTICE, lost).await;
    let began = Instant::now();
    let was_running = match &reconnecting {
        Ok(()) => service.stop().await,
        Err(_) => false,
    };
    let took = began.elapsed();
    // It is down for that long, and so is the network.
    tokio::time::sleep(hold).await;
    proxy.set(Mode::Forward);
    reconnecting?;
    service.start().await;
    really(was_running, "it was not running")?;
    let seen = format!("ended {:.1} s after SIGTERM in the middle of a reconnect", took.as_secs_f64());
    Ok(Verdict::bounded(seen, took <= GRACE + LAST_WORDS))
}
