//! What every test stands on: servers, a database and queues of its own, processes of the binary, receivers.

mod authority;
mod broker;
mod connect_proxy;
#[path = "../../kit/servers/containers.rs"]
mod containers;
mod database;
mod own_servers;
mod pooler;
mod process;
mod proxy;
mod receiver;
mod roles;
mod secure;
mod servers;
mod shell;
mod stack;
mod terminal;
mod unix;

use std::time::Duration;

use crate::kit::ask_until;

pub use crate::kit::binary::command;
pub use authority::{Authority, Issued};
pub use broker::DeadLetter;
pub use connect_proxy::ConnectProxy;
pub use database::{Attempt, Delivery};
pub use own_servers::{MAX_MESSAGE_BYTES, OwnServers, directory};
pub use pooler::Pooler;
pub use process::Process;
pub use proxy::Proxy;
pub use receiver::{Door, Receiver, Reply, Request};
pub use roles::Roles;
pub use secure::{PemFiles, SecureReceiver, certificate};
pub use servers::{Servers, make_template};
pub use shell::psql;
pub use stack::{Done, Stack, nowhere};
pub use terminal::at_a_terminal;
pub use unix::raise_open_files;

/// How long anything may take before a test gives up. Far more than needed, for a machine that is busy elsewhere.
pub const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(15);

/// Looks again and again until there is something to see.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, look).await
}

/// The same with a patience of its own, for what takes long by its nature.
pub async fn within<T>(patience: Duration, what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    let seen = ask_until(patience, LOOK_AGAIN, look).await;
    seen.unwrap_or_else(|| panic!("gave up after {patience:?}: {what}"))
}

/// Works in a thread of its own, so a test that is busy does not slow it down.
pub fn in_a_thread(work: impl Future<Output = ()> + Send + 'static) {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(work);
    });
}
