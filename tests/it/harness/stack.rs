//! One test's own Posthaste: a database, queues under a prefix of its own, and processes of the binary.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tempfile::TempDir;
use uuid::Uuid;

use super::process::Process;
use super::servers::{self, Servers};
use crate::kit::binary::{self, Binary, command, configure};

/// Settings of every process unless a test says otherwise: few queues, short delays, local receivers.
const SETTINGS: [(&str, &str); 10] = [
    ("retry.schedule", r#"["300ms", "600ms"]"#),
    ("retry.jitter_bps", "0"),
    ("delivery.allow_cidrs", r#"["127.0.0.0/8"]"#),
    ("delivery.connect_timeout", "2s"),
    ("delivery.timeout", "10s"),
    ("security.encryption_key", "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="),
    ("telemetry.listen", "127.0.0.1:0"),
    ("telemetry.log_format", "json"),
    ("worker.concurrency", "48"),
    ("shutdown.grace", "10s"),
];

const DATABASES: &str = "posthaste_it";
const PREFIXES: &str = "ph";

pub struct Stack {
    pub db: PgPool,
    pub binary: Binary,
    /// Of all exchanges and queues.
    pub prefix: String,
    /// The database to drop at the end; none on servers that are thrown away as a whole.
    database: Option<String>,
    /// Where processes run: no configuration file is found there.
    _directory: TempDir,
    processes: Mutex<Vec<Process>>,
    /// Queues that the test declared itself.
    pub(super) declared: Mutex<Vec<String>>,
    pub(super) broker: tokio::sync::OnceCell<lapin::Connection>,
}

/// An endpoint as `endpoint add` returned it.
#[derive(Debug, Clone)]
pub struct Endpoint {
    pub id: Uuid,
    pub secret: String,
}

/// How a command ended.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    #[track_caller]
    pub fn ok(self) -> Done {
        assert_eq!(self.code, 0, "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// The one JSON value that a command with `--json` prints.
    #[track_caller]
    pub fn json(self) -> Value {
        let done = self.ok();
        serde_json::from_str(&done.stdout).unwrap_or_else(|error| panic!("{error} in {:?}", done.stdout))
    }
}

impl Stack {
    pub async fn new() -> Stack {
        Stack::with(&[]).await
    }

    /// With settings for all its processes, as `section.key` and value.
    pub async fn with(settings: &[(&str, &str)]) -> Stack {
        let servers = tokio::task::spawn_blocking(servers::shared).await.expect("servers for the tests");
        let mut stack = Stack::on(&servers, settings).await;
        stack.database = Some(stack.name());
        stack
    }

    /// On servers that the test may stop, and that are thrown away as a whole.
    pub async fn on(servers: &Servers, settings: &[(&str, &str)]) -> Stack {
        static NUMBER: AtomicU32 = AtomicU32::new(1);
        let name = format!("{}_{}", servers::run_name(), NUMBER.fetch_add(1, Ordering::Relaxed));
        servers.create_database(&name).await.expect("a database for the test");
        let database_url = servers::with_database(&servers.database_url, &name);
        let db = PgPoolOptions::new().max_connections(8).connect_lazy(&database_url).expect("a pool");
        let (prefix, directory) =
            (name.replace(DATABASES, PREFIXES), tempfile::tempdir().expect("a directory for the test"));
        let of_its_own = [("broker.prefix", prefix.as_str())];
        let settings = of_its_own.iter().chain(&SETTINGS).chain(settings).copied();
        Stack {
            db,
            binary: Binary::new(directory.path(), (&database_url, &servers.amqp_url), settings),
            prefix,
            database: None,
            _directory: directory,
            processes: Mutex::default(),
            declared: Mutex::default(),
            broker: tokio::sync::OnceCell::new(),
        }
    }

    /// Of its database.
    fn name(&self) -> String {
        self.prefix.replacen(PREFIXES, DATABASES, 1)
    }

    pub async fn relay(&self) -> Process {
        self.start("relay", &[]).await
    }

    pub async fn worker(&self) -> Process {
        self.start("worker", &[]).await
    }

    /// Relay and worker in one process.
    pub async fn run(&self) -> Process {
        self.start("run", &[]).await
    }

    /// A service that is ready, with settings of its own.
    pub async fn start(&self, command: &str, settings: &[(&str, &str)]) -> Process {
        let process = self.spawn(command, settings);
        process.ready().await;
        process
    }

    /// A service that may never get ready.
    pub fn spawn(&self, command: &str, settings: &[(&str, &str)]) -> Process {
        self.spawn_command(&[command], settings)
    }

    /// A command that runs on while the test looks at what it does.
    pub fn spawn_command(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Process {
        let process = Process::start(&arguments.join(" "), self.command(arguments, settings));
        self.processes().push(process.clone());
        process
    }

    /// Runs a command to its end.
    pub async fn cli(&self, arguments: &[&str]) -> Done {
        self.cli_with(arguments, &[]).await
    }

    pub async fn cli_with(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Done {
        finish(self.command(arguments, settings)).await
    }

    /// An endpoint of the tenant, with further arguments for `endpoint add`.
    pub async fn endpoint(&self, tenant: &str, url: &str, arguments: &[&str]) -> Endpoint {
        let added = self.cli(&binary::add_endpoint(tenant, url, arguments)).await.ok();
        let (id, secret) = binary::endpoint(&added.stdout).expect("id and secret of the new endpoint");
        Endpoint { id, secret }
    }

    /// The binary with the settings of this stack, for a test that starts it in its own way.
    pub fn command(&self, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
        let mut command = self.binary.command(arguments);
        configure(&mut command, settings.iter().copied());
        command
    }

    fn processes(&self) -> std::sync::MutexGuard<'_, Vec<Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn clean_up(&self) -> Result<(), String> {
        let known = "select name from posthaste.delay_queues";
        let database = PgPoolOptions::new().max_connections(1).connect_lazy(&self.binary.database_url);
        let read = async { sqlx::query_scalar(known).fetch_all(&database?).await };
        let mut queues: Vec<String> = read.await.map_err(|error| format!("{known}: {error}"))?;
        queues.append(&mut self.declared.lock().unwrap_or_else(PoisonError::into_inner));
        super::broker::delete_all(&self.binary.amqp_url, &self.prefix, queues).await
    }
}

/// Runs a command where no server answers and nothing but these settings is configured.
pub async fn nowhere(arguments: &[&str], settings: &[(&str, &str)]) -> Done {
    let directory = tempfile::tempdir().expect("a directory for the command");
    let mut command = command(arguments, directory.path());
    configure(&mut command, [("database.url", "postgres://127.0.0.1:1/none"), ("broker.url", "amqp://127.0.0.1:1")]);
    configure(&mut command, settings.iter().copied());
    finish(command).await
}

pub(super) async fn finish(command: Command) -> Done {
    let output = binary::finish(command, super::PATIENCE).await.expect("the command ends in time");
    Done {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Nothing is left behind: no process, no queue, no database.
impl Drop for Stack {
    fn drop(&mut self) {
        let failing = std::thread::panicking();
        for process in self.processes().drain(..) {
            process.kill();
            if failing {
                println!("{}", process.log());
            }
        }
        let cleaned = std::thread::scope(|scope| {
            let cleaning = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
                runtime.block_on(async { tokio::time::timeout(super::PATIENCE, self.clean_up()).await })
            });
            cleaning.join()
        });
        if let Some(database) = &self.database {
            servers::drop_later(database);
        }
        let problem = match cleaned {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(problem))) => problem,
            Ok(Err(_)) => "it took too long".to_owned(),
            Err(_) => "it panicked".to_owned(),
        };
        // A second panic would end the process and hide the first one.
        assert!(failing, "the test left something behind: {problem}");
        println!("the failed test left something behind: {problem}");
    }
}
