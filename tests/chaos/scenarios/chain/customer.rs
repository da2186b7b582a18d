//! The customer's service as a process that can be killed, and what its database says in the end.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use posthaste::receiver::inbox::SCHEMA;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use super::service::{DATABASE, KEY, PORT, WORK_SCHEMA};
use crate::chaos::ledger::TENANT;
use crate::chaos::stack::Stack;
use crate::kit::binary;
use crate::kit::process::Process;
use crate::kit::servers::daemon::free_port;

const NAME: &str = "customer";
/// It is down for that long.
const DOWN: Duration = Duration::from_millis(500);

pub struct Customer {
    db: PgPool,
    database_url: String,
    key: String,
    port: u16,
    log: PathBuf,
    process: Mutex<Process>,
}

impl Customer {
    /// With a database of its own on the same server, and an endpoint that takes everything.
    pub async fn of(stack: &Stack, dir: &Path) -> Result<Customer, String> {
        let database_url = prepare(stack).await.map_err(|error| error.to_string())?;
        let (port, log) = (free_port(), dir.join(format!("{NAME}.log")));
        let url = format!("http://127.0.0.1:{port}/hooks");
        let added = stack.run(&binary::add_endpoint(TENANT, &url, &[])).await?;
        let (_, key) = binary::endpoint(&added).ok_or("an endpoint without an id or a secret")?;
        let db = PgPoolOptions::new().max_connections(1).connect_lazy(&database_url);
        let db = db.map_err(|error| error.to_string())?;
        let process = Mutex::new(start(&database_url, &key, port, &log));
        Ok(Customer { db, database_url, key, port, log, process })
    }

    /// It is killed so many times within this time, and started again. Returns how often it was running then.
    pub async fn die(&self, times: usize, within: Duration) -> usize {
        let mut killed = 0;
        for _ in 0..times {
            // The schedule says when.
            tokio::time::sleep((within / times as u32).saturating_sub(DOWN)).await;
            killed += usize::from(self.kill());
            // It is down for that long.
            tokio::time::sleep(DOWN).await;
            *self.process() = start(&self.database_url, &self.key, self.port, &self.log);
        }
        killed
    }

    fn kill(&self) -> bool {
        let process = self.process();
        let was_running = process.ended().is_none();
        process.kill();
        was_running
    }

    fn process(&self) -> std::sync::MutexGuard<'_, Process> {
        self.process.lock().expect("nothing panics with it")
    }

    /// The event of each effect.
    pub async fn effects(&self) -> Result<Vec<Uuid>, String> {
        let effects = sqlx::query_scalar("select event_id::uuid from effects").fetch_all(&self.db).await;
        effects.map_err(|error| error.to_string())
    }

    /// Requests with a good signature.
    pub async fn requests(&self) -> Result<u64, String> {
        let requests: Result<i64, _> = sqlx::query_scalar("select count(*) from requests").fetch_one(&self.db).await;
        requests.map(|count| count as u64).map_err(|error| error.to_string())
    }
}

async fn prepare(stack: &Stack) -> sqlx::Result<String> {
    sqlx::query("create database customer").execute(&stack.db).await?;
    let mut url = url::Url::parse(&stack.database_url).map_err(|error| sqlx::Error::Configuration(error.into()))?;
    url.set_path(NAME);
    let db = PgPoolOptions::new().max_connections(1).connect(url.as_str()).await?;
    for statement in [SCHEMA, WORK_SCHEMA] {
        sqlx::raw_sql(statement).execute(&db).await?;
    }
    Ok(url.into())
}

/// This program, as the service.
fn start(database_url: &str, key: &str, port: u16, log: &Path) -> Process {
    let log = File::options().create(true).append(true).open(log).expect("a log");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    // Ctrl-C is for the program that kills it.
    command.arg(NAME).env(DATABASE, database_url).env(KEY, key).env(PORT, port.to_string()).process_group(0);
    Process::start(command, log)
}
