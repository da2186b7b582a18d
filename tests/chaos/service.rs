//! One relay or worker: a process of the real binary behind proxies of its own, which can be killed, stopped and frozen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::process::Child;

use crate::binary::{Settings, command, get, sum, value};
use crate::kind::{Role, Server};
use crate::programs::{free_port, log_file};
use crate::proxy::Proxy;
use crate::unix::{Signal, signal};
use crate::{postgres, rabbitmq};

/// Longer than the grace period of the processes.
const STOP: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(2);

/// Counters that are summed over all lives of a process.
pub const REPUBLISHED: &str = "posthaste_lost_and_republished_total";
pub const DISCARDED: &str = "posthaste_duplicates_discarded_total";
pub const HELD: &str = "posthaste_held_total";

pub struct Service {
    pub name: String,
    pub role: Role,
    database: Proxy,
    broker: Proxy,
    metrics_port: u16,
    settings: Settings,
    dir: PathBuf,
    child: tokio::sync::Mutex<Option<Child>>,
    /// Metric -> what earlier lives had, and what this one has.
    tallies: Mutex<BTreeMap<&'static str, (f64, f64)>>,
    surprises: Mutex<Vec<String>>,
}

impl Service {
    pub async fn new(
        role: Role,
        number: usize,
        servers: (u16, u16),
        settings: &Settings,
        dir: &Path,
    ) -> std::io::Result<Service> {
        let kind = if role == Role::Relay { "relay" } else { "worker" };
        Ok(Service {
            name: format!("{kind}-{number}"),
            role,
            database: Proxy::to(Server::Postgres, servers.0).await?,
            broker: Proxy::to(Server::Broker, servers.1).await?,
            metrics_port: free_port(),
            settings: settings.clone(),
            dir: dir.to_owned(),
            child: tokio::sync::Mutex::default(),
            tallies: Mutex::default(),
            surprises: Mutex::default(),
        })
    }

    pub fn proxy(&self, server: Server) -> &Proxy {
        match server {
            Server::Postgres => &self.database,
            Server::Broker => &self.broker,
        }
    }

    pub async fn start(&self) {
        *self.child.lock().await = Some(self.spawn());
    }

    pub async fn start_unless_running(&self) {
        let mut child = self.child.lock().await;
        if child.is_none() {
            *child = Some(self.spawn());
        }
    }

    fn spawn(&self) -> Child {
        self.keep_tallies();
        let role = if self.role == Role::Relay { "relay" } else { "worker" };
        let urls = (postgres::url(self.database.port), rabbitmq::url(self.broker.port));
        let mut command = command(&[role], &urls, &self.settings, &self.dir);
        command.env("POSTHASTE_TELEMETRY__LISTEN", format!("127.0.0.1:{}", self.metrics_port));
        command.stdout(Stdio::null()).stderr(log_file(&self.dir, &self.name));
        command.spawn().expect("the binary can be started")
    }

    /// SIGKILL. The answer says whether it was running, here and in what follows.
    pub async fn kill(&self) -> bool {
        let Some(mut child) = self.child.lock().await.take() else { return false };
        let was_running = matches!(child.try_wait(), Ok(None));
        let _ = child.kill().await;
        was_running
    }

    /// SIGTERM, and waits for the end; anything but an orderly one is a surprise.
    pub async fn stop(&self) -> bool {
        let Some(mut child) = self.child.lock().await.take() else { return false };
        let was_running = child.id().is_some_and(|process| signal(process, Signal::Terminate));
        match tokio::time::timeout(STOP, child.wait()).await {
            Ok(Ok(status)) if status.success() => {}
            Ok(status) => self.surprise(format!("ended with {status:?} after SIGTERM")),
            Err(_) => {
                self.surprise(format!("did not end within {STOP:?} after SIGTERM"));
                let _ = child.kill().await;
            }
        }
        was_running
    }

    pub async fn freeze(&self, frozen: bool) -> bool {
        let child = self.child.lock().await;
        let process = child.as_ref().and_then(Child::id);
        process.is_some_and(|id| signal(id, if frozen { Signal::Freeze } else { Signal::Continue }))
    }

    /// Starts a process again that has ended by itself, as an orchestrator would.
    pub async fn revive(&self) {
        let mut child = self.child.lock().await;
        if let Some(Ok(Some(status))) = child.as_mut().map(Child::try_wait) {
            self.surprise(format!("ended by itself with {status}"));
            *child = Some(self.spawn());
        }
    }

    /// The process, while it runs.
    pub async fn process(&self) -> Option<u32> {
        self.child.lock().await.as_ref().and_then(Child::id)
    }

    /// Tasks of the process that have not ended; it always has some.
    pub async fn tasks(&self) -> Option<usize> {
        Some(sum(&self.metrics().await?, "posthaste_tasks") as usize).filter(|tasks| *tasks > 0)
    }

    /// Counts the work of this process since it started; nothing while it does not answer.
    pub async fn work_done(&self) -> Option<f64> {
        let name = match self.role {
            Role::Relay => "posthaste_relay_published_total",
            Role::Worker => "posthaste_attempts_total",
        };
        Some(sum(&self.metrics().await?, name))
    }

    /// Whether this relay says that it leads; nothing while it does not answer.
    pub async fn leads(&self) -> Option<bool> {
        Some(value(&self.metrics().await?, "posthaste_relay_leads")? > 0.0)
    }

    /// Deliveries that this worker has held since it started because of a fault of ours; nothing while it does not answer.
    pub async fn held_for_our_fault(&self) -> Option<f64> {
        Some(value(&self.metrics().await?, r#"posthaste_held_total{reason="our_fault"}"#).unwrap_or(0.0))
    }

    /// Remembers the counters, since they are gone with the process.
    pub async fn tally(&self) {
        let Some(text) = self.metrics().await else { return };
        let mut tallies = self.tallies();
        for name in [REPUBLISHED, DISCARDED, HELD] {
            tallies.entry(name).or_default().1 = sum(&text, name);
        }
    }

    pub fn total(&self, name: &str) -> f64 {
        self.tallies().get(name).map_or(0.0, |(past, now)| past + now)
    }

    pub fn surprises(&self) -> Vec<String> {
        self.surprises.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn surprise(&self, what: String) {
        let text = format!("{} {what}", self.name);
        eprintln!("  {text}");
        self.surprises.lock().unwrap_or_else(PoisonError::into_inner).push(text);
    }

    fn keep_tallies(&self) {
        self.tallies().values_mut().for_each(|(past, now)| {
            *past += *now;
            *now = 0.0;
        });
    }

    fn tallies(&self) -> MutexGuard<'_, BTreeMap<&'static str, (f64, f64)>> {
        self.tallies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it says that it has lost the server; nothing while it does not answer.
    pub async fn lacks(&self, server: Server) -> Option<bool> {
        let check = if server == Server::Postgres { "database" } else { "broker" };
        Some(self.get("/readyz").await?.contains(&format!("\"{check}\":")))
    }

    async fn metrics(&self) -> Option<String> {
        self.get("/metrics").await
    }

    async fn get(&self, path: &str) -> Option<String> {
        tokio::time::timeout(ANSWER, get(self.metrics_port, path)).await.ok()?.ok()
    }
}
