//! The real binary: how it is started, and what it says by HTTP.

use std::path::Path;
use std::process::Command;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};

/// With nothing of the caller's environment that configures it.
pub fn command(program: &str, arguments: &[&str], directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("POSTHASTE_") || text == "DATABASE_URL" || text == "AMQP_URL" {
            command.env_remove(&name);
        }
    }
    command
}

/// Settings as `section.key` and value.
pub fn configure<'a>(command: &mut Command, settings: impl IntoIterator<Item = (&'a str, &'a str)>) {
    for (key, value) in settings {
        command.env(format!("POSTHASTE_{}", key.replace('.', "__").to_uppercase()), value);
    }
}

/// Status and body of an answer.
pub async fn get(address: impl ToSocketAddrs, path: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
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

/// Id and secret of an endpoint, as `endpoint add --json` prints them.
pub fn endpoint(added: &str) -> Option<(uuid::Uuid, String)> {
    let added: serde_json::Value = serde_json::from_str(added).ok()?;
    Some((added["id"].as_str()?.parse().ok()?, added["secret"].as_str()?.to_owned()))
}
