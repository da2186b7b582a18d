//! Processes of the real binary: relays and workers, and commands that end by themselves.

use std::fs::File;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::{Child, Command};
use uuid::Uuid;

use crate::kit::binary::{self, configure, get};
use crate::kit::signal;

/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(120);
const ANSWER: Duration = Duration::from_secs(2);

pub type Settings = Vec<(&'static str, String)>;

/// The binary of this build, or the one that the script names, with where it runs and what it is told.
#[derive(Clone)]
pub struct Binary {
    pub dir: PathBuf,
    pub database_url: String,
    pub amqp_url: String,
    pub settings: Settings,
}

impl Binary {
    pub fn command(&self, arguments: &[&str]) -> Command {
        let given = std::env::var("POSTHASTE_LAB_BINARY").ok();
        let program = given.as_deref().unwrap_or(env!("CARGO_BIN_EXE_posthaste"));
        let mut command = binary::command(program, arguments, &self.dir);
        command.env("DATABASE_URL", &self.database_url).env("AMQP_URL", &self.amqp_url);
        configure(&mut command, self.settings.iter().map(|(key, value)| (*key, value.as_str())));
        let mut command = Command::from(command);
        command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        command
    }

    /// A command to its end; what it printed.
    pub async fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = tokio::time::timeout(COMMAND, self.command(arguments).output()).await;
        let output = output.map_err(|_| format!("{arguments:?} took too long"))?.map_err(|error| error.to_string())?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("{arguments:?}: {} {}", output.status, String::from_utf8_lossy(&output.stderr)))
    }

    /// Id and secret of a new endpoint.
    pub async fn add_endpoint(&self, tenant: &str, url: &str, more: &[&str]) -> Result<(Uuid, String), String> {
        let add = ["endpoint", "add", "--json", "--tenant", tenant, "--url", url];
        let added = self.run(&[&add, more].concat()).await?;
        binary::endpoint(&added).ok_or_else(|| "an endpoint without an id or a secret".to_owned())
    }
}

/// One that runs until it is stopped.
pub struct Process {
    pub name: String,
    port: u16,
    child: Child,
}

impl Process {
    /// A relay or a worker, which serves its metrics at this port.
    pub fn start(binary: &Binary, role: &str, name: &str, port: u16) -> Process {
        let log = binary.dir.join(format!("{name}.log"));
        let log = File::options().create(true).append(true).open(log).expect("a log");
        let mut command = binary.command(&[role]);
        command.env("POSTHASTE_TELEMETRY__LISTEN", format!("127.0.0.1:{port}"));
        let child = command.stdout(Stdio::null()).stderr(log).spawn().expect("the binary can be started");
        Process { name: name.to_owned(), port, child }
    }

    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    pub async fn metrics(&self) -> Option<String> {
        answer(self.port, "/metrics").await.map(|(_, text)| text)
    }

    pub async fn is_ready(&self) -> bool {
        answer(self.port, "/readyz").await.is_some_and(|(status, _)| status == 200)
    }

    /// How it has ended by itself.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    pub fn signal(&self, number: libc::c_int) -> bool {
        self.child.id().is_some_and(|id| signal(id, number))
    }

    pub async fn kill(mut self) {
        let _ = self.child.kill().await;
    }

    /// SIGTERM, and waits for the end. Anything but an orderly one is an error.
    pub async fn stop(mut self, limit: Duration) -> Result<(), String> {
        self.signal(libc::SIGTERM);
        let ended = tokio::time::timeout(limit, self.child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(status) => Err(format!("ended with {status:?} after SIGTERM")),
            Err(_) => {
                self.kill().await;
                Err(format!("did not end within {limit:?} after SIGTERM"))
            }
        }
    }
}

/// Status and body; none while nobody answers at the port.
pub async fn answer(port: u16, path: &str) -> Option<(u16, String)> {
    tokio::time::timeout(ANSWER, get(("127.0.0.1", port), path)).await.ok()?.ok()
}
