//! The test receiver: answers webhooks on any path as its behaviour says, verifies every signature, and counts.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::behaviour::Behaviour;
use super::connection;
use super::settings::{Recorded, Settings};
use super::shared::Shared;
use super::stats::Stats;

/// How long responses in flight may take once the receiver is told to stop.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// The pause after a connection could not be accepted, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

pub struct Server {
    listener: TcpListener,
    handle: Handle,
}

impl Server {
    pub async fn bind(addr: SocketAddr, settings: Settings) -> io::Result<Server> {
        let listener = TcpListener::bind(addr).await?;
        let handle = Handle { addr: listener.local_addr()?, shared: Arc::new(Shared::new(settings)) };
        Ok(Server { listener, handle })
    }

    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Serves until `shutdown` is done. What is then in flight has a second to end.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) {
        let stop = CancellationToken::new();
        let mut connections = JoinSet::new();
        tokio::pin!(shutdown);
        loop {
            tokio::select! {
                () = &mut shutdown => break,
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, _)) => {
                        connections.spawn(connection::run(stream, self.handle.shared.clone(), stop.clone()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
        drop(self.listener);
        stop.cancel();
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_GRACE, drained).await.is_err() {
            connections.shutdown().await;
        }
    }
}

/// Reads and steers a running receiver.
#[derive(Clone)]
pub struct Handle {
    addr: SocketAddr,
    shared: Arc<Shared>,
}

impl Handle {
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    pub fn stats(&self) -> Stats {
        self.shared.state().ledger.stats.clone()
    }

    /// Each webhook id with its number of 2xx answers.
    pub fn ids(&self) -> HashMap<String, u64> {
        self.shared.state().ledger.ids()
    }

    /// The last `Settings::record` requests, oldest first.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.state().recorded.iter().cloned().collect()
    }

    pub fn set_behaviour(&self, behaviour: Behaviour) {
        self.shared.state().behaviour = behaviour;
    }

    /// Waits until the counts are as wanted; `Err` holds what they were when the time was up.
    pub async fn wait_until(&self, timeout: Duration, wanted: impl Fn(&Stats) -> bool) -> Result<Stats, Stats> {
        let wait = async {
            loop {
                // Asked for before looking, so that no change between the two is missed.
                let changed = self.shared.changed.notified();
                tokio::pin!(changed);
                changed.as_mut().enable();
                let stats = self.stats();
                if wanted(&stats) {
                    return stats;
                }
                changed.await;
            }
        };
        tokio::time::timeout(timeout, wait).await.map_err(|_| self.stats())
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
