//! The end of the process: a signal asks for it, a grace period bounds it, and what did not finish is named.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Display;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The exit code of a process that a second signal ended at once.
pub const EXIT_FORCED: i32 = 130;

/// Shared by everything that has to stop in order. Being asked to stop is never an error of the work it interrupts.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    asked: CancellationToken,
    tasks: TaskTracker,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    next: u64,
    running: BTreeMap<u64, Cow<'static, str>>,
    failed: Vec<String>,
}

/// What the grace period left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// Names of tasks that were still running when the grace period was over.
    pub abandoned: Vec<String>,
    /// Tasks that ended in a panic, by name, and what others failed of.
    pub failed: Vec<String>,
}

impl Shutdown {
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// Cancelled when the process should stop.
    pub fn token(&self) -> &CancellationToken {
        &self.asked
    }

    pub async fn asked(&self) {
        self.asked.cancelled().await;
    }

    pub fn ask(&self) {
        self.asked.cancel();
    }

    /// Runs a task that `drain` waits for. One that panics stops the process: half a process is worse than a restart.
    pub fn spawn<F>(&self, name: impl Into<Cow<'static, str>>, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let running = self.enter(name.into());
        self.tasks.spawn(async move {
            let _running = running;
            task.await
        })
    }

    /// The same for a task that can fail, which stops the process too.
    pub fn spawn_fallible<F, E>(&self, name: &'static str, task: F) -> JoinHandle<()>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Display,
    {
        let shutdown = self.clone();
        self.spawn(name, async move {
            if let Err(error) = task.await {
                shutdown.fail(format!("{name}: {error}"));
            }
        })
    }

    fn fail(&self, what: String) {
        tracing::error!(what, "stopping after a failure");
        self.state().failed.push(what);
        self.ask();
    }

    pub fn has_failed(&self) -> bool {
        !self.state().failed.is_empty()
    }

    /// Asks for the stop on the first signal; a second one means that somebody does not want to wait.
    pub fn on_signals(&self, mut signals: mpsc::Receiver<&'static str>, force: impl FnOnce() + Send + 'static) {
        let asked = self.asked.clone();
        tokio::spawn(async move {
            let Some(name) = signals.recv().await else { return };
            tracing::info!(signal = name, "stopping; a second signal ends the process at once");
            asked.cancel();
            if let Some(name) = signals.recv().await {
                tracing::warn!(signal = name, "second signal: ending at once");
                force();
            }
        });
    }

    /// Waits for every task, at most for the grace period.
    pub async fn drain(&self, grace: Duration) -> Drained {
        self.ask();
        self.tasks.close();
        let in_time = timeout(grace, self.tasks.wait()).await.is_ok();
        let state = self.state();
        let abandoned: Vec<String> =
            if in_time { Vec::new() } else { state.running.values().map(ToString::to_string).collect() };
        if !abandoned.is_empty() {
            tracing::warn!(grace_ms = grace.as_millis() as u64, ?abandoned, "the grace period is over");
        }
        Drained { abandoned, failed: state.failed.clone() }
    }

    fn enter(&self, name: Cow<'static, str>) -> Running {
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.running.insert(id, name);
        Running { id, shutdown: self.clone() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists a task as running until it ends, by returning, by panic or by being dropped.
struct Running {
    id: u64,
    shutdown: Shutdown,
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.shutdown.state();
        let name = state.running.remove(&self.id);
        if std::thread::panicking() {
            state.failed.extend(name.map(String::from));
            self.shutdown.ask();
        }
    }
}

/// SIGTERM and SIGINT of this process, from now on.
pub fn signals() -> io::Result<mpsc::Receiver<&'static str>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let (sender, receiver) = mpsc::channel(2);
    tokio::spawn(async move {
        loop {
            let name = tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            };
            if sender.send(name).await.is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

#[cfg(test)]
#[path = "lifecycle_tests.rs"]
mod tests;
