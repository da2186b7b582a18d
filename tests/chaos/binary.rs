//! The real binary: starting it, and asking it for its metrics.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;

pub type Settings = Vec<(&'static str, String)>;

/// The binary of this build, or the one that the script names, with nothing of the caller's environment that configures it.
pub fn command(arguments: &[&str], urls: &(String, String), settings: &Settings, dir: &Path) -> Command {
    let program = crate::programs::variable("BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_posthaste").to_owned());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(dir).stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("POSTHASTE_") {
            command.env_remove(&name);
        }
    }
    command.env("DATABASE_URL", &urls.0).env("AMQP_URL", &urls.1);
    for (key, value) in settings {
        command.env(format!("POSTHASTE_{}", key.replace('.', "__").to_uppercase()), value);
    }
    command
}

/// A command to its end; what it printed.
pub async fn output(mut command: Command, limit: Duration) -> Result<String, String> {
    let output = tokio::time::timeout(limit, command.output()).await;
    let output = output.map_err(|_| format!("{command:?} took too long"))?.map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{:?}: {} {}", command.as_std().get_args(), output.status, String::from_utf8_lossy(&output.stderr)))
}

/// The answer with its head.
pub async fn get(port: u16, path: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    Ok(text)
}

/// Of one series, as it is written with its labels.
pub fn value(metrics: &str, series: &str) -> Option<f64> {
    let line = metrics.lines().filter_map(|line| line.rsplit_once(' ')).find(|(found, _)| *found == series);
    line.and_then(|(_, value)| value.parse().ok())
}

/// Over all label values.
pub fn sum(metrics: &str, name: &str) -> f64 {
    let series = metrics.lines().filter_map(|line| line.rsplit_once(' '));
    let of_name = series.filter(|(series, _)| series.split('{').next() == Some(name));
    of_name.filter_map(|(_, value)| value.parse::<f64>().ok()).sum()
}
