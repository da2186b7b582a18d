//! PostgreSQL and RabbitMQ in containers, by the docker client. With the standard library alone, like all that starts servers.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The one place that names the images.
const COMPOSE: &str = include_str!("../../../docker-compose.yml");
/// An engine that is there answers sooner.
const ENGINE: Duration = Duration::from_secs(10);
/// Waits until its standard input closes, at the latest with the process that started it.
const REMOVE: &str = r#"cat >/dev/null; docker rm --force --volumes "$1-postgres" "$1-rabbitmq" >/dev/null 2>&1"#;
/// By TCP: the server that initializes the database listens on its socket alone.
const POSTGRES_IS_UP: &str = "pg_isready -q -h 127.0.0.1";
/// As root, and before the server has made the Erlang cookie, the tool would make one that the server cannot read.
const RABBITMQ_IS_UP: &str =
    "test -s /var/lib/rabbitmq/.erlang.cookie && exec rabbitmq-diagnostics -q check_port_connectivity";

/// They are removed when it is dropped, or this process ends.
pub struct Containers {
    name: String,
    password: String,
    watcher: Child,
}

/// The client alone is often installed. An engine on another machine is of no use: its ports are not ours.
pub fn engine_answers() -> bool {
    let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
    let of_context = || docker(&["context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]).ok();
    let is_here = |host: &String| !host.starts_with("tcp:") && !host.starts_with("ssh:");
    if !host.or_else(of_context).as_ref().is_some_and(is_here) {
        return false;
    }
    let mut asking = Command::new("docker");
    asking.arg("info").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let (Ok(mut asking), began) = (asking.spawn(), Instant::now()) else { return false };
    loop {
        match asking.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if began.elapsed() < ENGINE => {}
            _ => {
                let _ = asking.kill();
                let _ = asking.wait();
                return false;
            }
        }
        // The end of a process is not a signal that the standard library can wait for with a limit.
        std::thread::sleep(Duration::from_millis(50));
    }
}

impl Containers {
    /// Begins to start both. `options` are further settings of PostgreSQL. Fetching the images may take minutes.
    pub fn start(password: String, options: &[&str]) -> Result<Containers, String> {
        let name = format!("posthaste-{}", std::process::id());
        let mut watcher = Command::new("sh");
        watcher.args(["-c", REMOVE, "sh", &name]).process_group(0).stdin(Stdio::piped());
        let watcher = watcher.spawn().map_err(|error| format!("sh: {error}"))?;
        let containers = Containers { name, password, watcher };
        containers.run("postgres", &["5432"], options)?;
        containers.run("rabbitmq", &["5672", "15672"], &[])?;
        Ok(containers)
    }

    fn run(&self, server: &str, ports: &[&str], options: &[&str]) -> Result<(), String> {
        let mut command = Command::new("docker");
        command.args(["run", "--detach", "--name", &self.container(server), "--hostname", server]);
        if server == "postgres" {
            // Without a value it is taken from the environment, so that the password is in no command line.
            command.env("POSTGRES_PASSWORD", &self.password).args(["--env", "POSTGRES_PASSWORD"]);
        }
        ports.iter().for_each(|port| _ = command.arg("--publish").arg(format!("127.0.0.1::{port}")));
        command.arg(image(server));
        options.iter().for_each(|option| _ = command.args(["-c", option]));
        answer(&mut command).map(drop)
    }

    /// Whether both answer. One that has ended is an error.
    pub fn poll(&self) -> Result<bool, String> {
        for (server, is_up) in [("postgres", POSTGRES_IS_UP), ("rabbitmq", RABBITMQ_IS_UP)] {
            let container = self.container(server);
            if docker(&["exec", &container, "sh", "-c", is_up]).is_ok() {
                continue;
            }
            let runs = docker(&["inspect", "--format", "{{.State.Running}}", &container])?;
            let log = || docker(&["logs", "--tail", "20", &container]).unwrap_or_default();
            return if runs == "true" { Ok(false) } else { Err(format!("{server} has ended: {}", log())) };
        }
        Ok(true)
    }

    /// Of the superuser; what follows is `/` and the name of a database.
    pub fn database_server(&self) -> Result<String, String> {
        Ok(format!("postgres://postgres:{}@127.0.0.1:{}", self.password, self.port("postgres", "5432")?))
    }

    pub fn broker_url(&self) -> Result<String, String> {
        Ok(format!("amqp://guest:guest@127.0.0.1:{}/%2f", self.port("rabbitmq", "5672")?))
    }

    pub fn container(&self, server: &str) -> String {
        format!("{}-{server}", self.name)
    }

    /// The port of 127.0.0.1 that leads there.
    pub fn port(&self, server: &str, port: &str) -> Result<String, String> {
        let mapped = docker(&["port", &self.container(server), port])?;
        let ours = mapped.lines().find_map(|line| line.strip_prefix("127.0.0.1:")).map(str::to_owned);
        ours.ok_or_else(|| format!("port {port} of {server} is not published: {mapped}"))
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        let _ = self.watcher.wait();
    }
}

fn image(server: &str) -> &'static str {
    let mut images = COMPOSE.lines().filter_map(|line| line.trim().strip_prefix("image:")).map(str::trim);
    images.find(|image| image.split(':').next() == Some(server)).expect("an image in docker-compose.yml")
}

fn docker(arguments: &[&str]) -> Result<String, String> {
    answer(Command::new("docker").args(arguments))
}

fn answer(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("docker: {error}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(format!("docker: {}", text(&output.stderr))) }
}
