//! A PostgreSQL and a RabbitMQ from the installed programs, for tests that kill servers.
//!
//! Each has everything of its own: data, ports, log, and RabbitMQ also its node name, its cookie and its epmd. They end
//! with this process, whatever becomes of it.

use std::io::{Write, stderr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use super::programs::{self, Programs};
use super::servers::{Servers, make_template};
use super::{unix, within};

/// RabbitMQ takes long to start on a machine that is busy elsewhere.
const START: Duration = Duration::from_secs(120);
/// Larger messages are refused by this RabbitMQ.
pub const MAX_MESSAGE_BYTES: usize = 100_000;
/// Runs a program that does not outlive us: our end of the pipe closes at the latest with this process, and then the
/// watcher kills the whole group.
const WATCHED: &str = r#"ulimit -n 16384 2>/dev/null
exec 3<&0 </dev/null
{ cat <&3 >/dev/null; kill -KILL 0; } &
exec 3<&- "$@""#;

static SHARED: Mutex<Option<OwnServers>> = Mutex::const_new(None);

pub struct OwnServers {
    pub servers: Servers,
    postgres: Postgres,
    rabbitmq: RabbitMq,
    directory: TempDir,
}

impl OwnServers {
    /// For one test at a time; made by the first one. `None`, with a word about it, where the programs are not installed.
    pub async fn lock(test: &str) -> Option<MutexGuard<'static, Option<OwnServers>>> {
        let mut shared = SHARED.lock().await;
        if shared.is_none() {
            let Some(bins) = Programs::find() else {
                // Not by the macro: what a passing test prints is not shown.
                let why =
                    "no PostgreSQL and RabbitMQ are installed here (POSTHASTE_POSTGRES_BIN, POSTHASTE_RABBITMQ_BIN)";
                let _ = writeln!(stderr(), "SKIPPED {test}: it kills servers of its own, and {why}");
                return None;
            };
            *shared = Some(OwnServers::start(&bins).await);
            unix::at_exit(at_exit);
        }
        Some(shared)
    }

    async fn start(programs: &Programs) -> OwnServers {
        let directory = tempfile::Builder::new().prefix("posthaste-it-").tempdir().expect("a directory for servers");
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), open).expect("a directory that the servers' user may enter");
        let mut postgres = Postgres::new(programs, directory.path());
        let mut rabbitmq = RabbitMq::new(programs, directory.path());
        tokio::join!(postgres.start(), rabbitmq.start());
        let mut servers = Servers { database_url: postgres.url(), amqp_url: rabbitmq.url(), template: String::new() };
        servers.template = make_template(&servers.database_url).await.expect("a database to copy");
        OwnServers { servers, postgres, rabbitmq, directory }
    }

    /// The postmaster alone, as an OOM killer would.
    pub fn kill_postgres(&mut self) {
        self.postgres.server.kill();
    }

    pub async fn start_postgres(&mut self) {
        self.postgres.start().await;
    }

    pub fn kill_rabbitmq(&mut self) {
        self.rabbitmq.server.kill();
    }

    pub async fn stop_rabbitmq(&mut self) {
        self.rabbitmq.server.stop().await;
    }

    pub async fn start_rabbitmq(&mut self) {
        self.rabbitmq.start().await;
    }

    /// With one byte of memory allowed, the broker raises its alarm at once and blocks who publishes.
    pub async fn memory_alarm(&self, raised: bool) {
        let limit: &[&str] = if raised { &["absolute", "1"] } else { &["0.4"] };
        self.rabbitmq.control(&[&["set_vm_memory_high_watermark"], limit].concat()).await;
    }

    /// No disk is that large, so the broker raises its alarm at once.
    pub async fn disk_alarm(&self, raised: bool) {
        let limit = if raised { "1000000GB" } else { "1MB" };
        self.rabbitmq.control(&["set_disk_free_limit", limit]).await;
    }
}

extern "C" fn at_exit() {
    if let Ok(mut shared) = SHARED.try_lock()
        && let Some(own) = shared.take()
    {
        drop((own.postgres, own.rabbitmq));
        let _ = own.directory.close();
    }
}

/// A program in the background, as a user without rights, in a directory of its own.
struct Server {
    user: Option<(u32, u32)>,
    directory: PathBuf,
    running: Option<(Child, ChildStdin)>,
}

impl Server {
    fn new(parent: &Path, name: &str, users: &[&str]) -> Server {
        let directory = parent.join(name);
        std::fs::create_dir(&directory).expect("a directory for a server");
        let user = (id(&["-u"]) == Some(0)).then(|| unprivileged(users));
        if let Some((uid, gid)) = user {
            chown(&directory, Some(uid), Some(gid)).expect("a directory of the server's user");
        }
        Server { user, directory, running: None }
    }

    /// What is to run until it is stopped, or we end.
    fn watched(&self, program: &Path, environment: &[(String, String)]) -> Command {
        let mut command = self.command(Path::new("sh"), environment);
        command.args(["-c", WATCHED, "sh"]).arg(program).process_group(0).stdin(Stdio::piped());
        command
    }

    /// With nothing of our environment but a path.
    fn command(&self, program: &Path, environment: &[(String, String)]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.directory).stdin(Stdio::null());
        command.env_clear().env("PATH", programs::path()).env("LANG", "C.UTF-8");
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        std::fs::write(&path, text).expect("a file of the server");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a private file");
        if let Some((uid, gid)) = self.user {
            chown(&path, Some(uid), Some(gid)).expect("a file of the server's user");
        }
    }

    fn spawn(&mut self, mut command: Command) {
        let log = std::fs::File::options().create(true).append(true).open(self.directory.join("output.log"));
        let log = log.expect("a log");
        command.stdout(log.try_clone().expect("a log")).stderr(log);
        let mut child = command.spawn().expect("the server can be started");
        let watched = child.stdin.take().expect("stdin is a pipe");
        self.running = Some((child, watched));
    }

    fn id(&self) -> Option<u32> {
        self.running.as_ref().map(|(child, _)| child.id())
    }

    fn has_ended(&mut self) -> bool {
        self.running.as_mut().is_none_or(|(child, _)| !matches!(child.try_wait(), Ok(None)))
    }

    fn kill(&mut self) {
        if let Some((mut child, watched)) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
            drop(watched);
        }
    }

    /// Asks it to stop, and waits until it has.
    async fn stop(&mut self) {
        unix::terminate(self.id().expect("the server runs"));
        within(START, "the server has stopped", async || self.has_ended().then_some(())).await;
        self.running = None;
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.directory.join("output.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).output().ok().filter(|output| output.status.success())?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}

/// User and group. PostgreSQL refuses to run as root.
fn unprivileged(users: &[&str]) -> (u32, u32) {
    let user = users.iter().chain(&["nobody"]).find_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?)));
    user.expect("a user without rights to run servers as")
}

/// Below the ports that systems use for outgoing connections, so that it is still free at a restart.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = (std::process::id() % 11_000) as u16;
    loop {
        let port = 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn owned<const N: usize>(pairs: [(&str, String); N]) -> Vec<(String, String)> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

struct Postgres {
    server: Server,
    bin: PathBuf,
    port: u16,
    password: String,
}

impl Postgres {
    fn new(programs: &Programs, parent: &Path) -> Postgres {
        let server = Server::new(parent, "postgres", &["postgres"]);
        let password = uuid::Uuid::new_v4().simple().to_string();
        server.write("password", &password);
        let mut init = server.command(&programs.postgres.join("initdb"), &[]);
        init.args(["-D", "data", "-U", "postgres", "-E", "UTF8", "--no-locale", "--no-sync"]);
        init.args(["--auth=scram-sha-256", "--pwfile=password"]);
        let made = init.output().expect("initdb can be started");
        assert!(made.status.success(), "initdb: {}", String::from_utf8_lossy(&made.stderr));
        Postgres { server, bin: programs.postgres.clone(), port: free_port(), password }
    }

    fn url(&self) -> String {
        format!("postgres://postgres:{}@127.0.0.1:{}/postgres", self.password, self.port)
    }

    /// After a kill it may refuse at first: sessions of the old one still hold the memory that they share.
    async fn start(&mut self) {
        let mut runs = None;
        within(START, "PostgreSQL answers", async || {
            if self.server.has_ended() {
                self.server.spawn(self.serve());
                runs = self.server.id().map(|id| id.to_string());
            }
            let state = std::fs::read_to_string(self.server.directory.join("data/postmaster.pid")).ok()?;
            let lines: Vec<&str> = state.lines().collect();
            let is_ours = lines.first().copied() == runs.as_deref();
            (is_ours && lines.get(7).is_some_and(|word| word.trim() == "ready")).then_some(())
        })
        .await;
    }

    fn serve(&self) -> Command {
        let mut serve = self.server.watched(&self.bin.join("postgres"), &[]);
        serve.args(["-D", "data", "-p", &self.port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
        serve.args(["-c", "unix_socket_directories=", "-c", "max_connections=200"]);
        serve
    }
}

struct RabbitMq {
    server: Server,
    epmd: Server,
    bin: PathBuf,
    environment: Vec<(String, String)>,
    port: u16,
}

impl RabbitMq {
    fn new(programs: &Programs, parent: &Path) -> RabbitMq {
        let server = Server::new(parent, "rabbitmq", &["rabbitmq", "postgres"]);
        let epmd = Server::new(parent, "epmd", &["rabbitmq", "postgres"]);
        let [port, distribution, epmd_port] = [free_port(), free_port(), free_port()];
        let settings = format!(
            "listeners.tcp.1 = 127.0.0.1:{port}\nmax_message_size = {MAX_MESSAGE_BYTES}\nlog.file.level = info\n"
        );
        server.write("rabbitmq.conf", &settings);
        server.write("enabled_plugins", "[].");
        server.write("rabbitmq-env.conf", "");
        server.write(".erlang.cookie", &uuid::Uuid::new_v4().simple().to_string());
        let file = |name: &str| server.directory.join(name).to_string_lossy().into_owned();
        let additional = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}";
        let environment = owned([
            ("HOME", file("")),
            ("ERL_EPMD_PORT", epmd_port.to_string()),
            ("ERL_EPMD_ADDRESS", "127.0.0.1".into()),
            ("RABBITMQ_NODENAME", format!("posthaste-it-{port}@localhost")),
            ("RABBITMQ_DIST_PORT", distribution.to_string()),
            ("RABBITMQ_CONF_ENV_FILE", file("rabbitmq-env.conf")),
            ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
            ("RABBITMQ_CONFIG_FILES", file("conf.d")),
            ("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config")),
            ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
            ("RABBITMQ_MNESIA_BASE", file("data")),
            ("RABBITMQ_GENERATED_CONFIG_DIR", file("generated")),
            ("RABBITMQ_LOG_BASE", file("log")),
            ("RABBITMQ_LOGS", file("log/node.log")),
            ("RABBITMQ_PID_FILE", file("node.pid")),
            ("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", additional.into()),
            // Then the start script becomes the server itself, and signals reach it.
            ("RUNNING_UNDER_SYSTEMD", "1".into()),
        ]);
        RabbitMq { server, epmd, bin: programs.rabbitmq.clone(), environment, port }
    }

    fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    async fn start(&mut self) {
        let setting = |name: &str| self.environment.iter().find(|(known, _)| known == name).map(|(_, value)| value);
        let epmd_port = setting("ERL_EPMD_PORT").cloned().unwrap_or_default();
        if self.epmd.has_ended() {
            let mut epmd = self.epmd.watched(Path::new("epmd"), &[]);
            epmd.args(["-address", "127.0.0.1", "-port", &epmd_port]);
            self.epmd.spawn(epmd);
        }
        within(START, "epmd answers", async || {
            std::net::TcpStream::connect(format!("127.0.0.1:{epmd_port}")).ok().map(drop)
        })
        .await;
        let log = self.server.directory.join("log/node.log");
        let _ = std::fs::remove_file(&log);
        self.server.spawn(self.server.watched(&self.bin.join("rabbitmq-server"), &self.environment));
        within(START, "RabbitMQ answers", async || {
            assert!(!self.server.has_ended(), "RabbitMQ did not start: {}", self.server.output());
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            text.contains("Server startup complete").then_some(())
        })
        .await;
    }

    async fn control(&self, arguments: &[&str]) {
        let mut command = self.server.command(&self.bin.join("rabbitmqctl"), &self.environment);
        command.arg("-q").args(arguments);
        let done = tokio::process::Command::from(command).output().await.expect("rabbitmqctl can be started");
        assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }
}
