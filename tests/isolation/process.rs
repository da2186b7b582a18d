//! Relays and workers as processes of the real binary, and what a process uses. Reads `/proc`, so it needs Linux.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Child;

use crate::binary::{Settings, command, get};
use crate::programs::{free_port, log_file, wait_for};
use crate::unix::{Signal, signal};

const START: Duration = Duration::from_secs(60);
/// Longer than the grace period of the processes.
const STOP: Duration = Duration::from_secs(40);

pub struct Process {
    pub name: String,
    metrics_port: u16,
    child: Child,
}

impl Process {
    /// Returns when it is ready.
    pub async fn start(
        role: &str,
        number: usize,
        urls: &(String, String),
        settings: &Settings,
        dir: &Path,
    ) -> Result<Process, String> {
        let (name, metrics_port) = (format!("{role}-{number}"), free_port());
        let mut command = command(&[role], urls, settings, dir);
        command.env("POSTHASTE_TELEMETRY__LISTEN", format!("127.0.0.1:{metrics_port}"));
        command.stdout(Stdio::null()).stderr(log_file(dir, &name));
        let child = command.spawn().map_err(|error| format!("{name}: {error}"))?;
        wait_for(&name, START, async || {
            let answer = get(metrics_port, "/readyz").await.ok()?;
            answer.starts_with("HTTP/1.1 200").then_some(())
        })
        .await?;
        Ok(Process { name, metrics_port, child })
    }

    pub fn id(&self) -> u32 {
        self.child.id().unwrap_or_default()
    }

    pub async fn metrics(&self) -> Option<String> {
        get(self.metrics_port, "/metrics").await.ok()
    }

    /// SIGTERM, and waits for the end. Not having lived until now, or an end that is not an orderly one, is an error.
    pub async fn stop(mut self) -> Result<(), String> {
        if let Ok(Some(status)) = self.child.try_wait() {
            return Err(format!("{} ended by itself with {status}", self.name));
        }
        signal(self.id(), Signal::Terminate);
        match tokio::time::timeout(STOP, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(status) => Err(format!("{} ended with {status:?} after SIGTERM", self.name)),
            Err(_) => Err(format!("{} did not end within {STOP:?} after SIGTERM", self.name)),
        }
    }
}

/// What a process, or several together, have used.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    pub cpu_seconds: f64,
    pub memory_bytes: f64,
}

impl std::ops::Add for Usage {
    type Output = Usage;

    fn add(self, other: Usage) -> Usage {
        Usage {
            cpu_seconds: self.cpu_seconds + other.cpu_seconds,
            memory_bytes: self.memory_bytes + other.memory_bytes,
        }
    }
}

/// The process alone. One that is gone uses nothing.
pub fn usage(process: u32) -> Usage {
    let Some(fields) = stat(process) else { return Usage::default() };
    Usage { cpu_seconds: cpu_seconds(&fields, 2), memory_bytes: resident_bytes(process) }
}

/// CPU time of a process with its children, those that have ended included.
pub fn family_cpu_seconds(parent: u32) -> f64 {
    let Some(fields) = stat(parent) else { return 0.0 };
    children(parent).into_iter().map(|child| usage(child).cpu_seconds).sum::<f64>() + cpu_seconds(&fields, 4)
}

pub fn children(parent: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |id: &u32| stat(*id).is_some_and(|fields| fields.get(PARENT) == Some(&i64::from(parent)));
    ids.filter(is_child).collect()
}

/// Of the fields after the name: the parent, and where user and system time begin, followed by those of ended children.
const PARENT: usize = 0;
const TIMES: usize = 10;

/// The numbers of `/proc/<process>/stat` from the parent on; the name before them may contain anything.
fn stat(process: u32) -> Option<Vec<i64>> {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(") ")?;
    Some(fields.split_whitespace().skip(1).map(|field| field.parse().unwrap_or_default()).collect())
}

fn cpu_seconds(fields: &[i64], times: usize) -> f64 {
    // SAFETY: sysconf takes a plain number.
    let ticks = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    fields.iter().skip(TIMES).take(times).sum::<i64>() as f64 / ticks as f64
}

fn resident_bytes(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok());
    kib.unwrap_or_default() * 1024.0
}

/// The load average of the last minute, and the number of cores.
pub fn load() -> (f64, usize) {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split_whitespace().next().and_then(|load| load.parse().ok()).unwrap_or_default();
    (load, std::thread::available_parallelism().map_or(1, usize::from))
}
