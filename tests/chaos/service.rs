//! One relay or worker: a process of the real binary behind proxies of its own, which can be killed, stopped and frozen.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::chaos::kind::{Role, Server};
use crate::chaos::proxy::Proxy;
use crate::kit::binary::{Binary, series, sum};
use crate::kit::servers::daemon::free_port;
use crate::process::{Process, answer};

/// Longer than the grace period of the processes.
const STOP: Duration = Duration::from_secs(20);

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
    /// By way of the proxies.
    binary: Binary,
    /// Of another version than this build, from the next start on.
    program: Mutex<Option<PathBuf>>,
    process: tokio::sync::Mutex<Option<Process>>,
    /// Metric -> what earlier lives had, and what this one has.
    tallies: Mutex<BTreeMap<&'static str, (f64, f64)>>,
    surprises: Mutex<Vec<String>>,
}

impl Service {
    pub fn new(role: Role, number: usize, binary: &Binary) -> Service {
        let database = Proxy::to(Server::Postgres, &binary.database_url);
        let broker = Proxy::to(Server::Broker, &binary.amqp_url);
        let (database_url, amqp_url) = (database.url(&binary.database_url), broker.url(&binary.amqp_url));
        Service {
            name: format!("{}-{number}", role.command()),
            role,
            database,
            broker,
            metrics_port: free_port(),
            binary: Binary { database_url, amqp_url, ..binary.clone() },
            program: Mutex::new(binary.program.clone()),
            process: tokio::sync::Mutex::default(),
            tallies: Mutex::default(),
            surprises: Mutex::default(),
        }
    }

    pub fn proxy(&self, server: Server) -> &Proxy {
        match server {
            Server::Postgres => &self.database,
            Server::Broker => &self.broker,
        }
    }

    pub async fn start(&self) {
        *self.process.lock().await = Some(self.spawn());
    }

    pub async fn start_unless_running(&self) {
        self.process.lock().await.get_or_insert_with(|| self.spawn());
    }

    /// What it is from its next start on: another version, or this build.
    pub fn become_program(&self, program: Option<PathBuf>) {
        *self.program.lock().unwrap_or_else(PoisonError::into_inner) = program;
    }

    fn spawn(&self) -> Process {
        self.keep_tallies();
        let program = self.program.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let binary = Binary { program, ..self.binary.clone() };
        Process::start(&binary, self.role.command(), &self.name, self.metrics_port)
    }

    /// SIGKILL. The answer says whether it was running, here and in what follows.
    pub async fn kill(&self) -> bool {
        let Some(process) = self.process.lock().await.take() else { return false };
        // Dropping it kills it.
        process.ended().is_none()
    }

    /// SIGTERM, and waits for the end; anything but an orderly one is a surprise.
    pub async fn stop(&self) -> bool {
        let Some(process) = self.process.lock().await.take() else { return false };
        let was_running = process.ended().is_none();
        if let Err(problem) = process.stop(STOP).await {
            self.surprise(problem);
        }
        was_running
    }

    pub async fn freeze(&self, frozen: bool) -> bool {
        let process = self.process.lock().await;
        process.as_ref().is_some_and(|process| process.signal(if frozen { libc::SIGSTOP } else { libc::SIGCONT }))
    }

    /// Starts a process again that has ended by itself, as an orchestrator would.
    pub async fn revive(&self) {
        let mut process = self.process.lock().await;
        if let Some(status) = process.as_ref().and_then(Process::ended) {
            self.surprise(format!("ended by itself with {status}"));
            *process = Some(self.spawn());
        }
    }

    /// The process, while it runs.
    pub async fn process(&self) -> Option<u32> {
        self.process.lock().await.as_ref().map(Process::id)
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
        value(&self.metrics().await?, "posthaste_relay_leads").map(|leads| leads > 0.0)
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
        answer(self.metrics_port, path).await.map(|(_, text)| text)
    }
}

/// Of one series, as it is written with its labels.
fn value(metrics: &str, name: &str) -> Option<f64> {
    series(metrics).find(|(found, _)| *found == name).map(|(_, value)| value)
}
