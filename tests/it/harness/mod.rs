//! What every test stands on: servers, a database and queues of its own, processes of the binary, receivers.

mod broker;
mod database;
mod own_servers;
mod pooler;
mod process;
mod programs;
mod proxy;
mod receiver;
mod servers;
mod stack;
mod terminal;
mod unix;

use std::time::{Duration, Instant};

pub use broker::Letter;
pub use database::{Attempt, Delivery};
pub use own_servers::{MAX_MESSAGE_BYTES, OwnServers};
pub use pooler::Pooler;
pub use process::Process;
pub use proxy::Proxy;
pub use receiver::{Door, Receiver, Reply, Request};
pub use stack::{Done, Stack, command, nowhere};
pub use terminal::at_a_terminal;
pub use unix::terminate;

/// How long anything may take before a test gives up. Far more than needed, for a machine that is busy elsewhere.
pub const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_AGAIN: Duration = Duration::from_millis(15);

/// Looks again and again until there is something to see.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await
}

/// The same with a patience of its own, for what takes long by its nature.
pub async fn within<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(seen) = look().await {
            return seen;
        }
        assert!(began.elapsed() < patience, "gave up after {patience:?}: {what}");
        // What other processes, servers and queues have done sends no signal: this is where all such waiting is.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
