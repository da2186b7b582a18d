//! A PostgreSQL of our own that can be killed and started again on the same data.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sqlx::{Connection, PgConnection};
use tokio::process::{Child, Command};

use crate::programs::{Owner, free_port, log_file, wait_for};
use crate::unix::{Signal, signal};

pub const PASSWORD: &str = "chaos";
const DATABASE: &str = "postgres";
const START: Duration = Duration::from_secs(90);
const STOP: Duration = Duration::from_secs(30);

pub struct Postgres {
    bin: PathBuf,
    dir: PathBuf,
    owner: Option<Owner>,
    pub port: u16,
    /// Further settings.
    options: &'static [&'static str],
    child: Option<Child>,
}

/// The URL through some port: its own, or a proxy's.
pub fn url(port: u16) -> String {
    format!("postgres://postgres:{PASSWORD}@127.0.0.1:{port}/{DATABASE}")
}

impl Postgres {
    pub async fn create(dir: &Path, options: &'static [&'static str]) -> Result<Postgres, String> {
        let bin = crate::programs::directory("POSTHASTE_POSTGRES_BIN")?;
        let owner = Owner::of("POSTGRES_OWNER");
        let dir = crate::programs::server_directory(dir, "postgres", owner)?;
        let password = dir.join("password");
        std::fs::write(&password, PASSWORD).map_err(|error| error.to_string())?;
        let mut postgres = Postgres { bin, dir, owner, port: free_port(), options, child: None };
        let mut initdb = postgres.command("initdb", "initdb");
        initdb.args(["-D", "data", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync", "--auth=password"]);
        let status = initdb.arg("--pwfile").arg(&password).status().await;
        if !status.as_ref().is_ok_and(std::process::ExitStatus::success) {
            return Err(format!("initdb: {status:?}; see {}", postgres.dir.display()));
        }
        postgres.start().await?;
        Ok(postgres)
    }

    fn command(&self, program: &str, log: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir(&self.dir).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C.UTF-8");
        let log = log_file(&self.dir, log);
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        if let Some(owner) = self.owner {
            command.uid(owner.user).gid(owner.group);
        }
        command
    }

    /// Returns when it answers.
    pub async fn start(&mut self) -> Result<(), String> {
        let mut command = self.command("postgres", "postgres");
        command.args(["-D", "data", "-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        command.args(["-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "log_line_prefix=%m "]);
        command.args(self.options.iter().flat_map(|option| ["-c", option]));
        self.child = Some(command.spawn().map_err(|error| format!("postgres: {error}"))?);
        let url = url(self.port);
        wait_for("PostgreSQL", START, async || {
            // Children of a killed one may hold its memory for a moment: then it ends at once, and is started again.
            if self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
                self.child = command.spawn().ok();
            }
            PgConnection::connect(&url).await.ok()?.close().await.ok()
        })
        .await
    }

    /// The postmaster.
    pub fn process(&self) -> Option<u32> {
        self.child.as_ref().and_then(Child::id)
    }

    /// SIGKILL of the postmaster and of every process that it has started.
    pub async fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(postmaster) = child.id() {
            // Stopped, it makes no new child that would outlive it and keep the next server from starting.
            signal(postmaster, Signal::Freeze);
            let children = children_of(postmaster).await;
            signal(postmaster, Signal::Kill);
            children.iter().for_each(|process| _ = signal(*process, Signal::Kill));
        }
        let _ = child.wait().await;
    }

    /// The fast shutdown: open transactions are rolled back, sessions closed.
    pub async fn stop(&mut self) -> Result<(), String> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        if let Some(postmaster) = child.id() {
            signal(postmaster, Signal::Interrupt);
        }
        if tokio::time::timeout(STOP, child.wait()).await.is_ok() {
            return Ok(());
        }
        self.child = Some(child);
        self.kill().await;
        Err(format!("PostgreSQL did not stop within {STOP:?}, and was killed"))
    }
}

/// At the end of the run nothing in it matters any more.
impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(postmaster) = self.process() {
            signal(postmaster, Signal::Quit);
        }
    }
}

async fn children_of(parent: u32) -> Vec<u32> {
    let listed = Command::new("ps").args(["-A", "-o", "pid=", "-o", "ppid="]).output().await;
    let text = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    });
    pairs.filter(|(_, of)| *of == parent).map(|(process, _)| process).collect()
}
