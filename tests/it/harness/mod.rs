//! What every test stands on: servers, a database and queues of its own, processes of the binary, receivers.

mod broker;
mod database;
mod process;
mod proxy;
mod receiver;
mod servers;
mod stack;
mod unix;

use std::time::{Duration, Instant};

pub use database::Attempt;
pub use process::Process;
pub use proxy::Proxy;
pub use receiver::{Door, Receiver, Reply, Request};
pub use stack::{Stack, nowhere};

/// How long anything may take before a test gives up. Far more than needed, for a machine that is busy elsewhere.
pub const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(15);

/// Looks again and again until there is something to see.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "gave up after {PATIENCE:?}: {what}");
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
