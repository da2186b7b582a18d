//! A RabbitMQ of our own that can be killed, started again, and emptied. Beside any other node of the machine: with its own
//! name, cookie, directories, ports and epmd.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use lapin::options::{QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio::process::{Child, Command};

use crate::programs::{Owner, directory, free_port, log_file, own, path, server_directory, wait_for};
use crate::unix::{Signal, signal, signal_group};

/// Of the relays and workers, and of this program.
const USER: &str = "guest";
const PID_FILE: &str = "node.pid";
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(60);
const ANSWER: Duration = Duration::from_secs(10);
const GOODBYE: Duration = Duration::from_secs(1);
/// AMQP's code for what does not exist.
const NOT_FOUND: u16 = 404;

pub struct RabbitMq {
    bin: PathBuf,
    dir: PathBuf,
    owner: Option<Owner>,
    pub port: u16,
    dist_port: u16,
    epmd_port: u16,
    /// Erlang's registry of nodes.
    _epmd: Child,
    child: Option<Child>,
}

/// The URL through some port: its own, or a proxy's.
pub fn url(port: u16) -> String {
    format!("amqp://{USER}:guest@127.0.0.1:{port}/%2f")
}

impl RabbitMq {
    /// With `metrics_port` it tells its own counters there, for Prometheus.
    pub async fn create(dir: &Path, metrics_port: Option<u16>) -> Result<RabbitMq, String> {
        let bin = directory("POSTHASTE_RABBITMQ_BIN")?;
        let owner = Owner::of("RABBITMQ_OWNER");
        let dir = server_directory(dir, "rabbitmq", owner)?;
        let (port, dist_port, epmd_port) = (free_port(), free_port(), free_port());
        write_settings(&dir, port, metrics_port, owner)?;
        let mut epmd = environment(Command::new("epmd"), &dir, (port, dist_port, epmd_port), owner);
        epmd.args(["-address", "127.0.0.1", "-port", &epmd_port.to_string()]).process_group(0);
        let epmd = epmd.spawn().map_err(|error| format!("epmd: {error}"))?;
        wait_for("epmd", START, async || tokio::net::TcpStream::connect(("127.0.0.1", epmd_port)).await.ok()).await?;
        let mut rabbitmq = RabbitMq { bin, dir, owner, port, dist_port, epmd_port, _epmd: epmd, child: None };
        rabbitmq.start().await?;
        Ok(rabbitmq)
    }

    fn command(&self, program: &str) -> Command {
        let ports = (self.port, self.dist_port, self.epmd_port);
        environment(Command::new(self.bin.join(program)), &self.dir, ports, self.owner)
    }

    /// Returns when it answers.
    pub async fn start(&mut self) -> Result<(), String> {
        let mut server = self.command("rabbitmq-server");
        server.process_group(0);
        self.child = Some(server.spawn().map_err(|error| format!("rabbitmq-server: {error}"))?);
        let url = url(self.port);
        wait_for("RabbitMQ", START, async || {
            // The name of a killed node may be taken for a moment: then it ends at once, and is started again.
            if self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(Some(_)))) {
                self.child = server.spawn().ok();
            }
            connect(&url).await.ok()?.close(200, "up".into()).await.ok()
        })
        .await
    }

    /// The server itself; what was started is a script.
    pub fn server(&self) -> Option<u32> {
        std::fs::read_to_string(self.dir.join(PID_FILE)).ok()?.trim().parse().ok()
    }

    /// SIGKILL of the server and everything around it.
    pub async fn kill(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.server().into_iter().for_each(|server| _ = signal(server, Signal::Kill));
        child.id().into_iter().for_each(|script| signal_group(script, Signal::Kill));
        let _ = child.wait().await;
        self.forget_server();
    }

    pub async fn stop(&mut self) -> Result<(), String> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        self.server().into_iter().for_each(|server| _ = signal(server, Signal::Terminate));
        if tokio::time::timeout(STOP, child.wait()).await.is_ok() {
            self.forget_server();
            return Ok(());
        }
        self.child = Some(child);
        self.kill().await;
        Err(format!("RabbitMQ did not stop within {STOP:?}, and was killed"))
    }

    /// The number of a process that has ended may be given to another one.
    fn forget_server(&self) {
        let _ = std::fs::remove_file(self.dir.join(PID_FILE));
    }

    /// Everything that it knew; only while it is down.
    pub fn forget_everything(&self) -> Result<(), String> {
        match std::fs::remove_dir_all(self.dir.join("data")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(format!("the broker's data: {error}")),
            _ => Ok(()),
        }
    }

    /// With the alarm the broker reads nothing that is published.
    pub async fn memory_alarm(&self, on: bool) -> Result<(), String> {
        let limit: &[&str] = if on { &["absolute", "1"] } else { &["0.8"] };
        let limited = self.control("rabbitmqctl", "set_vm_memory_high_watermark", limit).await?;
        if limited { Ok(()) } else { Err("rabbitmqctl could not set the limit of memory".to_owned()) }
    }

    /// Whether the user of relays and workers may declare and delete; what is published and consumed stays allowed.
    pub async fn may_declare(&self, may: bool) -> Result<(), String> {
        let what = if may { ".*" } else { "^$" };
        let set = self.control("rabbitmqctl", "set_permissions", &[USER, what, ".*", ".*"]).await?;
        if set { Ok(()) } else { Err("rabbitmqctl could not set the permissions".to_owned()) }
    }

    /// With the broker's own tools, which need no permission.
    pub async fn delete_queue_by_force(&self, queue: &str) -> Result<(), String> {
        let deleted = self.control("rabbitmqctl", "delete_queue", &[queue]).await?;
        if deleted { Ok(()) } else { Err(format!("rabbitmqctl could not delete {queue}")) }
    }

    /// Whether an alarm is on.
    pub async fn is_alarmed(&self) -> Result<bool, String> {
        self.control("rabbitmq-diagnostics", "check_local_alarms", &[]).await.map(|calm| !calm)
    }

    /// Whether a command of the broker's own tools went well.
    async fn control(&self, program: &str, command: &str, arguments: &[&str]) -> Result<bool, String> {
        let mut control = self.command(program);
        control.args(["-q", command]).args(arguments);
        let status = tokio::time::timeout(STOP, control.status()).await;
        let status = status.map_err(|_| format!("{program} did not end"))?;
        status.map(|status| status.success()).map_err(|error| format!("{program}: {error}"))
    }

    /// The number of connections that it has, and of channels on them.
    pub async fn connections(&self) -> Result<(usize, usize), String> {
        let mut control = self.command("rabbitmqctl");
        control.args(["-s", "list_connections", "channels"]).stdout(Stdio::piped());
        let listed = tokio::time::timeout(STOP, control.output()).await.map_err(|_| "rabbitmqctl did not end")?;
        let listed = listed.map_err(|error| format!("rabbitmqctl: {error}"))?;
        if !listed.status.success() {
            return Err("rabbitmqctl could not list the connections".to_owned());
        }
        let text = String::from_utf8_lossy(&listed.stdout).into_owned();
        let channels: Vec<usize> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
        Ok((channels.len(), channels.iter().sum()))
    }

    /// The number of messages that were ready in it. To delete a queue that is not there is an error.
    pub async fn delete_queue(&self, queue: &str) -> Result<u32, String> {
        self.depth(queue).await?.ok_or_else(|| format!("{queue} is not there"))?;
        let deleting =
            self.with_channel(async |channel| channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await);
        answered(deleting).await
    }

    /// The number of messages that are ready in it; none if it is not there.
    pub async fn depth(&self, queue: &str) -> Result<Option<u32>, String> {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declaring = self.with_channel(async |channel| {
            match channel.queue_declare(queue.into(), passive, FieldTable::default()).await {
                Err(error) if is_not_found(&error) => Ok(None),
                declared => declared.map(|queue| Some(queue.message_count())),
            }
        });
        answered(declaring).await
    }

    async fn with_channel<T>(&self, ask: impl AsyncFnOnce(&Channel) -> lapin::Result<T>) -> lapin::Result<T> {
        let connection = connect(&url(self.port)).await?;
        let answer = ask(&connection.create_channel().await?).await;
        // The answer stands, whatever becomes of the connection.
        let _ = tokio::time::timeout(GOODBYE, connection.close(200, "done".into())).await;
        answer
    }
}

fn is_not_found(error: &lapin::Error) -> bool {
    matches!(error.kind(), lapin::ErrorKind::ProtocolError(error) if error.get_id() == NOT_FOUND)
}

/// A call to a broker that is in trouble may never return.
async fn answered<T>(asking: impl Future<Output = lapin::Result<T>>) -> Result<T, String> {
    let answer =
        tokio::time::timeout(ANSWER, asking).await.map_err(|_| format!("the broker: nothing within {ANSWER:?}"))?;
    answer.map_err(|error| error.to_string())
}

/// At the end of the run nothing in it matters any more.
impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.server().into_iter().for_each(|server| _ = signal(server, Signal::Kill));
        let script = self.child.as_ref().and_then(Child::id);
        script.into_iter().for_each(|script| signal_group(script, Signal::Kill));
    }
}

async fn connect(url: &str) -> lapin::Result<Connection> {
    Connection::connect(url, ConnectionProperties::default().with_connection_name("chaos".into())).await
}

fn write_settings(dir: &Path, port: u16, metrics_port: Option<u16>, owner: Option<Owner>) -> Result<(), String> {
    let listen = metrics_port.map(|port| format!("prometheus.tcp.ip = 127.0.0.1\nprometheus.tcp.port = {port}\n"));
    let plugins = if metrics_port.is_some() { "rabbitmq_prometheus" } else { "" };
    let settings = format!("listeners.tcp.1 = 127.0.0.1:{port}\nlog.file.level = info\n{}", listen.unwrap_or_default());
    let cookie = format!("{:032x}", rand::random::<u128>());
    let files = [
        ("rabbitmq.conf", settings, 0o600),
        ("enabled_plugins", format!("[{plugins}].\n"), 0o600),
        ("rabbitmq-env.conf", String::new(), 0o600),
        (".erlang.cookie", cookie, 0o400),
    ];
    for (name, text, mode) in files {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).map_err(|error| error.to_string())?;
        owner.map_or(Ok(()), |owner| own(&path, owner))?;
    }
    Ok(())
}

/// Nothing of the caller's environment but a PATH, so that no setting of another node has a say.
fn environment(mut command: Command, dir: &Path, ports: (u16, u16, u16), owner: Option<Owner>) -> Command {
    let (port, dist_port, epmd_port) = ports;
    let log = log_file(dir, "rabbitmq");
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("a second handle")).stderr(log).kill_on_drop(true);
    command.current_dir(dir).env_clear().env("PATH", path());
    command.env("HOME", dir).env("LANG", "C.UTF-8");
    command.env("ERL_EPMD_PORT", epmd_port.to_string()).env("ERL_EPMD_ADDRESS", "127.0.0.1");
    command.env("RABBITMQ_NODENAME", format!("posthaste-{port}@localhost"));
    command.env("RABBITMQ_DIST_PORT", dist_port.to_string());
    let additional = "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}";
    command.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", additional);
    let paths = [
        ("RABBITMQ_CONF_ENV_FILE", "rabbitmq-env.conf"),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
        ("RABBITMQ_CONFIG_FILES", "conf.d"),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", "advanced.config"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
        ("RABBITMQ_MNESIA_BASE", "data"),
        ("RABBITMQ_GENERATED_CONFIG_DIR", "generated"),
        ("RABBITMQ_LOG_BASE", "log"),
        ("RABBITMQ_LOGS", "log/node.log"),
        ("RABBITMQ_PID_FILE", PID_FILE),
    ];
    command.envs(paths.map(|(name, file)| (name, dir.join(file))));
    if let Some(owner) = owner {
        command.uid(owner.user).gid(owner.group);
    }
    command
}
