//! What operators do with servers of our own: they start and stop them, and tell the broker what it may use.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use super::servers::daemon::Daemon;
use super::servers::postgres::Postgres;
use super::servers::programs::Programs;
use super::servers::rabbitmq::RabbitMq;
use super::{ask_until, signal};

/// RabbitMQ takes long to start on a machine that is busy elsewhere.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Both servers, below this directory: with further options of PostgreSQL, lines of rabbitmq.conf, and a plugin.
pub async fn start(dir: &Path, options: &[&str], settings: &str, plugin: &str) -> Result<(Postgres, RabbitMq), String> {
    let programs = Programs::find().map_err(|lack| lack.to_string())?;
    let mut postgres = Postgres::create(&programs, dir, options)?;
    let mut rabbitmq = RabbitMq::create(&programs, dir, settings, plugin)?;
    tokio::try_join!(postgres.start(), rabbitmq.start())?;
    Ok((postgres, rabbitmq))
}

impl Postgres {
    /// The database that is there from the beginning.
    pub fn url(&self) -> String {
        format!("{}/postgres", self.server_url())
    }

    /// Returns when it answers.
    pub async fn start(&mut self) -> Result<(), String> {
        let up = ask_until(START, LOOK_AGAIN, async || self.poll().then_some(())).await;
        up.ok_or_else(|| self.daemon.complaint("was not ready", START))
    }
}

impl RabbitMq {
    /// Returns when it answers.
    pub async fn start(&mut self) -> Result<(), String> {
        let up = async || self.poll().map(|up| up.then_some(())).transpose();
        ask_until(START, LOOK_AGAIN, up).await.unwrap_or_else(|| Err(self.daemon.complaint("was not ready", START)))
    }

    pub async fn stop(&mut self) -> Result<(), String> {
        self.daemon.stop(libc::SIGTERM).await
    }

    /// With one byte of memory allowed, the broker raises its alarm at once and reads nothing that is published.
    pub async fn memory_alarm(&self, on: bool) -> Result<(), String> {
        let limit: &[&str] = if on { &["absolute", "1"] } else { &["0.8"] };
        self.control(&[&["set_vm_memory_high_watermark"], limit].concat()).await.map(drop)
    }

    /// What rabbitmqctl answers to a command, which must go well.
    pub async fn control(&self, arguments: &[&str]) -> Result<String, String> {
        let done = self.tool("rabbitmqctl", arguments).await?;
        let failed = || format!("rabbitmqctl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned()).ok_or_else(failed)
    }

    /// One of the broker's own tools, which need no permission.
    pub async fn tool(&self, program: &str, arguments: &[&str]) -> Result<Output, String> {
        let command = self.daemon.command(&self.bin.join(program), &self.environment);
        let mut command = tokio::process::Command::from(command);
        let output = command.arg("-q").args(arguments).kill_on_drop(true).output();
        let output = tokio::time::timeout(STOP, output).await.map_err(|_| format!("{program} did not end"))?;
        output.map_err(|error| format!("{program}: {error}"))
    }
}

impl Daemon {
    /// Asks it to stop, and waits until it has.
    pub async fn stop(&mut self, number: libc::c_int) -> Result<(), String> {
        let Some(process) = self.id() else { return Ok(()) };
        signal(process, number);
        let ended = ask_until(STOP, LOOK_AGAIN, async || self.has_ended().then_some(())).await;
        self.kill();
        ended.ok_or_else(|| self.complaint("did not stop, and was killed", STOP))
    }

    fn complaint(&self, what: &str, limit: Duration) -> String {
        format!("the server in {} {what} within {limit:?}", self.directory.display())
    }
}
