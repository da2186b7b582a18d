use std::net::TcpStream;
use std::path::{Path, PathBuf};

use super::daemon::{Daemon, free_port, secret};
use super::programs::Programs;

const USERS: [&str; 2] = ["rabbitmq", "postgres"];
const LOG: &str = "log/node.log";

pub struct RabbitMq {
    pub daemon: Daemon,
    /// Erlang's registry of nodes.
    epmd: Daemon,
    epmd_port: u16,
    pub bin: PathBuf,
    pub environment: Vec<(&'static str, String)>,
    port: u16,
    /// How long the log was when the server was started.
    logged_before: usize,
}

impl RabbitMq {
    /// Not started yet. `settings` are further lines of rabbitmq.conf, `plugin` is one of those that come with it.
    pub fn create(programs: &Programs, parent: &Path, settings: &str, plugin: &str) -> Result<RabbitMq, String> {
        let (daemon, epmd) = (Daemon::new(parent, "rabbitmq", &USERS)?, Daemon::new(parent, "epmd", &USERS)?);
        let [port, dist_port, epmd_port] = [(); 3].map(|()| free_port());
        let listen = format!("listeners.tcp.1 = 127.0.0.1:{port}\nlog.file.level = info\n{settings}");
        daemon.write("rabbitmq.conf", &listen)?;
        daemon.write("enabled_plugins", &format!("[{plugin}]."))?;
        daemon.write("rabbitmq-env.conf", "")?;
        daemon.write(".erlang.cookie", &secret())?;
        let environment = environment(&daemon.directory, port, dist_port, epmd_port);
        let bin = programs.rabbitmq.clone();
        Ok(RabbitMq { daemon, epmd, epmd_port, bin, environment, port, logged_before: 0 })
    }

    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Starts it unless it runs; whether it answers. The name of a killed node may be taken for a moment: then it ends at
    /// once. A node that finds no epmd would start one itself, and that one would stay.
    pub fn poll(&mut self) -> Result<bool, String> {
        if self.epmd.has_ended() {
            let port = self.epmd_port.to_string();
            self.epmd.launch(Path::new("epmd"), &["-address", "127.0.0.1", "-port", &port], &[]);
        }
        if self.daemon.has_ended() {
            if TcpStream::connect(("127.0.0.1", self.epmd_port)).is_err() {
                return Ok(false);
            }
            self.logged_before = self.log().len();
            self.daemon.launch(&self.bin.join("rabbitmq-server"), &[], &self.environment);
        }
        let log = self.log();
        let is_up = log.get(self.logged_before..).is_some_and(|new| new.contains("Server startup complete"));
        if is_up && !is_new_enough(&log) {
            return Err("this RabbitMQ is too old: 3.10 or newer is needed".to_owned());
        }
        Ok(is_up)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.daemon.directory.join(LOG)).unwrap_or_default()
    }
}

/// 3.10 is the first with at-least-once dead lettering.
fn is_new_enough(log: &str) -> bool {
    let version = log.split_once("Starting RabbitMQ ").map_or("", |(_, version)| version);
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(3), Some(10))
}

/// No variable of another node and no file in /etc/rabbitmq has a say.
fn environment(directory: &Path, port: u16, dist_port: u16, epmd_port: u16) -> Vec<(&'static str, String)> {
    let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
    vec![
        ("HOME", file("")),
        ("ERL_EPMD_PORT", epmd_port.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODENAME", format!("posthaste-{port}@localhost")),
        ("RABBITMQ_DIST_PORT", dist_port.to_string()),
        ("RABBITMQ_CONF_ENV_FILE", file("rabbitmq-env.conf")),
        ("RABBITMQ_CONFIG_FILE", file("rabbitmq.conf")),
        ("RABBITMQ_CONFIG_FILES", file("conf.d")),
        ("RABBITMQ_ADVANCED_CONFIG_FILE", file("advanced.config")),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", file("enabled_plugins")),
        ("RABBITMQ_MNESIA_BASE", file("data")),
        ("RABBITMQ_GENERATED_CONFIG_DIR", file("generated")),
        ("RABBITMQ_LOG_BASE", file("log")),
        ("RABBITMQ_LOGS", file(LOG)),
        ("RABBITMQ_PID_FILE", file("node.pid")),
        (
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS",
            "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}".to_owned(),
        ),
        // Then the start script becomes the server itself, and signals reach it.
        ("RUNNING_UNDER_SYSTEMD", "1".to_owned()),
    ]
}
