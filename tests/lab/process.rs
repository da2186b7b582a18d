//! Processes of the real binary: relays and workers, and commands that end by themselves.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use uuid::Uuid;

use crate::kit::binary::{self, Binary, finish, get};
use crate::kit::{ask_until, process};

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_secs(2);
const LOOK_AGAIN: Duration = Duration::from_millis(20);

pub type Settings = Vec<(&'static str, String)>;

/// A command to its end; what it printed.
pub async fn run(binary: &Binary, arguments: &[&str]) -> Result<String, String> {
    let output = finish(binary.command(arguments), COMMAND).await.map_err(|error| format!("{arguments:?}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{arguments:?}: {} {}", output.status, String::from_utf8_lossy(&output.stderr)))
}

/// Id and secret of a new endpoint.
pub async fn add_endpoint(binary: &Binary, tenant: &str, url: &str, more: &[&str]) -> Result<(Uuid, String), String> {
    let added = run(binary, &binary::add_endpoint(tenant, url, more)).await?;
    binary::endpoint(&added).ok_or_else(|| "an endpoint without an id or a secret".to_owned())
}

/// One that runs until it is stopped.
pub struct Process {
    pub name: String,
    /// Of its HTTP server; none where the settings turn that off.
    port: Option<u16>,
    process: process::Process,
}

impl Process {
    /// A relay or a worker, which serves its metrics at this port, unless the settings say otherwise.
    pub fn start(binary: &Binary, role: &str, name: &str, port: u16) -> Process {
        let log = binary.dir.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let mut command = binary.command(&[role]);
        let is_silent = binary.settings.iter().any(|(key, value)| key == "telemetry.listen" && value.is_empty());
        let port = (!is_silent).then_some(port);
        let address = port.map_or_else(String::new, |port| format!("127.0.0.1:{port}"));
        // Ctrl-C is for this program alone, which ends the others in their order.
        command.env("POSTHASTE_TELEMETRY__LISTEN", address).process_group(0);
        Process { name: name.to_owned(), port, process: process::Process::start(command, log) }
    }

    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it can be asked for anything.
    pub fn is_served(&self) -> bool {
        self.port.is_some()
    }

    pub async fn metrics(&self) -> Option<String> {
        answer(self.port?, "/metrics").await.map(|(_, text)| text)
    }

    pub async fn is_ready(&self) -> bool {
        let Some(port) = self.port else { return false };
        answer(port, "/readyz").await.is_some_and(|(status, _)| status == 200)
    }

    /// How it has ended by itself.
    pub fn ended(&self) -> Option<std::process::ExitStatus> {
        self.process.ended()
    }

    pub fn signal(&self, number: libc::c_int) -> bool {
        self.process.signal(number)
    }

    /// SIGTERM, and waits for the end. Anything but an orderly one is an error; it is killed then, as it is when dropped.
    pub async fn stop(self, limit: Duration) -> Result<(), String> {
        self.signal(libc::SIGTERM);
        match ask_until(limit, LOOK_AGAIN, async || self.ended()).await {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!("ended with {status:?} after SIGTERM")),
            None => Err(format!("did not end within {limit:?} after SIGTERM")),
        }
    }
}

/// Status and body; none while nobody answers at the port.
pub async fn answer(port: u16, path: &str) -> Option<(u16, String)> {
    tokio::time::timeout(ANSWER, get(("127.0.0.1", port), path)).await.ok()?.ok()
}
