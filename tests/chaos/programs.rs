//! Starting programs: where `scripts/chaos` says they are, as the user that it says.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Whom a server runs as, where we are root.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    pub user: u32,
    pub group: u32,
}

impl Owner {
    pub fn of(name: &str) -> Option<Owner> {
        let text = variable(name).ok()?;
        let (user, group) = text.split_once(':')?;
        Some(Owner { user: user.parse().ok()?, group: group.parse().ok()? })
    }
}

/// What the script says.
pub fn variable(name: &str) -> Result<String, String> {
    given(&format!("POSTHASTE_CHAOS_{name}"))
}

/// Where a server's programs are; the script has looked whether they are there.
pub fn directory(variable: &str) -> Result<PathBuf, String> {
    given(variable).map(PathBuf::from)
}

/// Ours, with the directory of Erlang in front where the script was given one.
pub fn path() -> OsString {
    let ours = std::env::var_os("PATH").unwrap_or_default();
    let first = given("POSTHASTE_ERLANG_BIN").ok().map(PathBuf::from);
    std::env::join_paths(first.into_iter().chain(std::env::split_paths(&ours))).unwrap_or(ours)
}

fn given(variable: &str) -> Result<String, String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty()).ok_or_else(|| format!("{variable} is not set"))
}

pub fn server_directory(parent: &Path, name: &str, owner: Option<Owner>) -> Result<PathBuf, String> {
    let dir = parent.join(name);
    std::fs::create_dir(&dir).map_err(|error| format!("{}: {error}", dir.display()))?;
    if let Some(owner) = owner {
        own(&dir, owner)?;
    }
    Ok(dir)
}

pub fn own(path: &Path, owner: Owner) -> Result<(), String> {
    let owned = std::os::unix::fs::chown(path, Some(owner.user), Some(owner.group));
    owned.map_err(|error| format!("{}: {error}", path.display()))
}

pub fn log_file(dir: &Path, name: &str) -> File {
    let path = dir.join(format!("{name}.log"));
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Below the ports that systems use for outgoing connections, so that nobody takes it while its server is down.
pub fn free_port() -> u16 {
    loop {
        let port = rand::random_range(20_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// Asks again and again until there is an answer. One question may be lost: a server that dies or starts while it is asked
/// may never answer that one.
pub async fn wait_for<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Result<T, String> {
    const AGAIN: Duration = Duration::from_millis(100);
    const ONE: Duration = Duration::from_secs(5);
    let began = Instant::now();
    loop {
        if let Ok(Some(answer)) = tokio::time::timeout(ONE, ask()).await {
            return Ok(answer);
        }
        if began.elapsed() >= limit {
            return Err(format!("{what}: nothing within {limit:?}"));
        }
        // Asking is the only signal that there is.
        tokio::time::sleep(AGAIN).await;
    }
}
