use std::net::TcpStream;
use std::path::{Path, PathBuf};

use super::daemon::{Daemon, free_port, secret};
use super::programs::Programs;

const USERS: [&str; 2] = ["rabbitmq", "postgres"];
const LOG: &str = "log/node.log";

pub struct RabbitMq {
    pub daemon: Daemon,
    /// None: nodes of a cluster share one.
    epmd: Option<Epmd>,
    epmd_port: u16,
    pub bin: PathBuf,
    pub environment: Vec<(&'static str, String)>,
    /// Of AMQP.
    pub port: u16,
    /// How long the log was when the server was started.
    logged_before: usize,
}

/// Erlang's registry of nodes.
pub struct Epmd {
    daemon: Daemon,
    pub port: u16,
}

impl Epmd {
    /// Not started yet.
    pub fn create(parent: &Path) -> Result<Epmd, String> {
        Ok(Epmd { daemon: Daemon::new(parent, "epmd", &USERS)?, port: free_port() })
    }

    /// Starts it unless it runs.
    pub fn launch(&mut self) {
        if self.daemon.has_ended() {
            let port = self.port.to_string();
            self.daemon.launch(Path::new("epmd"), &["-address", "127.0.0.1", "-port", &port], &[]);
        }
    }
}

/// What a node has of its own, and what it has in common with the nodes of its cluster.
pub struct Node<'a> {
    /// Of its directory; and a part of its own name.
    pub name: &'a str,
    /// Of AMQP.
    pub port: u16,
    pub epmd_port: u16,
    pub cookie: &'a str,
    /// Further lines of rabbitmq.conf.
    pub settings: &'a str,
    /// One of the plugins that come with it, or none.
    pub plugin: &'a str,
}

impl RabbitMq {
    /// One node for itself, not started yet.
    pub fn create(programs: &Programs, parent: &Path, settings: &str, plugin: &str) -> Result<RabbitMq, String> {
        let (epmd, cookie) = (Epmd::create(parent)?, secret());
        let epmd_port = epmd.port;
        let node = Node { name: "rabbitmq", port: free_port(), epmd_port, cookie: &cookie, settings, plugin };
        Ok(RabbitMq { epmd: Some(epmd), ..RabbitMq::node(programs, parent, &node)? })
    }

    /// Not started yet; somebody else starts epmd.
    pub fn node(programs: &Programs, parent: &Path, node: &Node<'_>) -> Result<RabbitMq, String> {
        let Node { name, port, epmd_port, cookie, settings, plugin } = node;
        let daemon = Daemon::new(parent, name, &USERS)?;
        let listen = format!("listeners.tcp.1 = 127.0.0.1:{port}\nlog.file.level = info\n{settings}");
        daemon.write("rabbitmq.conf", &listen)?;
        daemon.write("enabled_plugins", &format!("[{plugin}]."))?;
        daemon.write("rabbitmq-env.conf", "")?;
        daemon.write(".erlang.cookie", cookie)?;
        let environment = environment(&daemon.directory, &format!("{name}-{port}@localhost"), *epmd_port);
        let bin = programs.rabbitmq.clone();
        let (port, epmd_port) = (*port, *epmd_port);
        Ok(RabbitMq { daemon, epmd: None, epmd_port, bin, environment, port, logged_before: 0 })
    }

    pub fn url(&self) -> String {
        format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port)
    }

    /// Starts it unless it runs; whether it answers. The name of a killed node may be taken for a moment: then it ends at
    /// once. A node that finds no epmd would start one itself, and that one would stay.
    pub fn poll(&mut self) -> Result<bool, String> {
        if let Some(epmd) = &mut self.epmd {
            epmd.launch();
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
fn environment(directory: &Path, node: &str, epmd_port: u16) -> Vec<(&'static str, String)> {
    let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
    vec![
        ("HOME", file("")),
        ("ERL_EPMD_PORT", epmd_port.to_string()),
        ("ERL_EPMD_ADDRESS", "127.0.0.1".to_owned()),
        ("RABBITMQ_NODENAME", node.to_owned()),
        ("RABBITMQ_DIST_PORT", free_port().to_string()),
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
