//! The real binary: how it is started, and what it says by HTTP.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};

/// Where it runs, and what it is told.
#[derive(Clone)]
pub struct Binary {
    pub dir: PathBuf,
    pub database_url: String,
    pub amqp_url: String,
    pub settings: Vec<(String, String)>,
    /// Of another version; none: the one of this build.
    pub program: Option<PathBuf>,
}

impl Binary {
    /// Settings as `section.key` and value.
    pub fn new<K: Into<String>, V: Into<String>>(
        dir: &Path,
        (database_url, amqp_url): (&str, &str),
        settings: impl IntoIterator<Item = (K, V)>,
    ) -> Binary {
        let settings = settings.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
        let (database_url, amqp_url) = (database_url.to_owned(), amqp_url.to_owned());
        Binary { dir: dir.to_owned(), database_url, amqp_url, settings, program: None }
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = match &self.program {
            Some(program) => command_of(program.as_os_str(), arguments, &self.dir),
            None => command(arguments, &self.dir),
        };
        command.env("DATABASE_URL", &self.database_url).env("AMQP_URL", &self.amqp_url);
        configure(&mut command, self.settings.iter().map(|(key, value)| (key.as_str(), value.as_str())));
        command
    }
}

/// The binary of this build, or the one that a script names, with nothing of the caller's environment that configures it.
pub fn command(arguments: &[&str], directory: &Path) -> Command {
    let given = std::env::var_os("POSTHASTE_LAB_BINARY");
    command_of(given.as_deref().unwrap_or(OsStr::new(env!("CARGO_BIN_EXE_posthaste"))), arguments, directory)
}

fn command_of(program: &OsStr, arguments: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("POSTHASTE_") || text.starts_with("OTEL_") || text == "DATABASE_URL" || text == "AMQP_URL" {
            command.env_remove(&name);
        }
    }
    if let Ok(file) = std::env::var("LLVM_PROFILE_FILE") {
        // Coverage counters in the file itself: they survive that the process is killed.
        command.env("LLVM_PROFILE_FILE", file.replace("%p", "%p%c"));
    }
    command
}

/// Settings as `section.key` and value.
pub fn configure<'a>(command: &mut Command, settings: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (key, value) in settings {
        command.env(format!("POSTHASTE_{}", key.replace('.', "__").to_uppercase()), value);
    }
}

/// How a command has ended that ends by itself.
pub async fn finish(command: Command, limit: Duration) -> Result<Output, String> {
    let mut command = tokio::process::Command::from(command);
    let output = command.kill_on_drop(true).stdin(Stdio::null()).output();
    let output = tokio::time::timeout(limit, output).await.map_err(|_| format!("it took longer than {limit:?}"))?;
    output.map_err(|error| format!("it could not be started: {error}"))
}

/// What adds an endpoint; [`endpoint`] reads the answer.
pub fn add_endpoint<'a>(tenant: &'a str, url: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let add = ["endpoint", "add", "--json", "--tenant", tenant, "--url", url];
    [&add[..], more].concat()
}

/// Id and secret of an endpoint, as `endpoint add --json` prints them.
pub fn endpoint(added: &str) -> Option<(uuid::Uuid, String)> {
    let added: serde_json::Value = serde_json::from_str(added).ok()?;
    Some((added["id"].as_str()?.parse().ok()?, added["secret"].as_str()?.to_owned()))
}

/// Status and body of an answer. By HTTP/1.0, in which no body comes in chunks.
pub async fn get(address: impl ToSocketAddrs, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.0\r\nhost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let status = text.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.to_owned()))
}

/// Every series of `/metrics`, as it is written with its labels, with its value.
pub fn series(metrics: &str) -> impl Iterator<Item = (&str, f64)> {
    let lines = metrics.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.rsplit_once(' ')).filter_map(|(name, value)| Some((name, value.parse().ok()?)))
}

/// The sum over all label values of one metric; 0 while it was never touched.
pub fn sum(metrics: &str, name: &str) -> f64 {
    series(metrics).filter(|(series, _)| series.split('{').next() == Some(name)).map(|(_, value)| value).sum()
}
