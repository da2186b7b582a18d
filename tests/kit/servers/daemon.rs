//! A program in the background, as a user without rights, in a directory of its own.

use std::fs::{File, Permissions};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};

use super::programs::path;

/// Runs a program that does not outlive us: our end of the pipe closes at the latest with this process, and then the
/// watcher kills the whole group. Every queue takes files, and the usual soft limit is 1024.
const WATCHED: &str = r#"ulimit -n 16384 2>/dev/null
exec 3<&0 </dev/null
{ cat <&3 >/dev/null; kill -KILL 0; } &
exec 3<&- "$@""#;

pub struct Daemon {
    user: Option<(u32, u32)>,
    pub directory: PathBuf,
    running: Option<(Child, ChildStdin)>,
}

impl Daemon {
    /// As the first of these users that exists, where we are root.
    pub fn new(parent: &Path, name: &str, users: &[&str]) -> Result<Daemon, String> {
        let directory = parent.join(name);
        let made = std::fs::create_dir(&directory);
        let user = (id(&["-u"]) == Some(0)).then(|| unprivileged(users)).transpose()?;
        let daemon = Daemon { user, directory, running: None };
        let own = made.and_then(|()| daemon.own(&daemon.directory, 0o700));
        own.map_err(|error| format!("{}: {error}", daemon.directory.display()))?;
        Ok(daemon)
    }

    fn own(&self, path: &Path, mode: u32) -> std::io::Result<()> {
        std::fs::set_permissions(path, Permissions::from_mode(mode))?;
        self.user.map_or(Ok(()), |(user, group)| chown(path, Some(user), Some(group)))
    }

    /// A file of its own that nobody else can read.
    pub fn write(&self, name: &str, text: &str) -> Result<(), String> {
        let path = self.directory.join(name);
        let written = std::fs::write(&path, text).and_then(|()| self.own(&path, 0o600));
        written.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Runs as it does, with nothing of our environment but a path.
    pub fn command(&self, program: &Path, environment: &[(&str, String)]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).stdin(Stdio::null());
        command.env_clear().env("PATH", path()).env("LANG", "C.UTF-8");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        command
    }

    /// Starts what is to run until it is stopped, or we end.
    pub fn launch(&mut self, program: &Path, arguments: &[&str], environment: &[(&str, String)]) {
        let log = File::options().create(true).append(true).open(self.directory.join("output.log")).expect("a log");
        let mut command = self.command(Path::new("sh"), environment);
        command.args(["-c", WATCHED, "sh"]).arg(program).args(arguments).process_group(0).stdin(Stdio::piped());
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        let mut child = command.spawn().expect("a shell");
        let watched = child.stdin.take().expect("stdin is a pipe");
        self.running = Some((child, watched));
    }

    /// Of the program itself, which takes the place of the shell.
    pub fn id(&self) -> Option<u32> {
        self.running.as_ref().map(|(child, _)| child.id())
    }

    pub fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(|(child, _)| !matches!(child.try_wait(), Ok(None)))
    }

    /// SIGKILL of the program, and then of what is left of its process group.
    pub fn kill(&mut self) {
        if let Some((mut child, watched)) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
            drop(watched);
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// User and group. PostgreSQL refuses to run as root.
fn unprivileged(users: &[&str]) -> Result<(u32, u32), String> {
    let user = users.iter().chain(&["nobody"]).find_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?)));
    user.ok_or_else(|| format!("no user to run a server as: none of {users:?} and nobody exists"))
}

/// Below the ports that systems use for outgoing connections, so that nobody takes it while its server is down.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = (std::process::id() % 12_000) as u16;
    loop {
        let port = 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A password: other users of this machine can reach the ports too.
pub fn secret() -> String {
    let mut bytes = [0; 16];
    File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut bytes)).expect("random bytes");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
