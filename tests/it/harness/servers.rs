//! The servers that all tests of a run share, and the database that every test's own is copied from.

use std::io::{Write, stderr};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use chrono::NaiveDate;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::containers::{Containers, engine_answers};
use super::own_servers::Native;
use super::unix;
use crate::kit::ask_until;
use crate::kit::binary::command;
use crate::kit::servers::daemon::secret;

const DATABASE_VARIABLE: &str = "POSTHASTE_TEST_DATABASE_URL";
const AMQP_VARIABLE: &str = "POSTHASTE_TEST_AMQP_URL";
/// What a run that was killed leaves behind is removed by a later one after this time.
const STALE: Duration = Duration::from_secs(3600);
/// What scripts say when there is a choice.
const SERVERS_VARIABLE: &str = "POSTHASTE_SERVERS";
const CONTAINER_START: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(300);
/// Durability is not what these tests look at.
const NO_SYNC: &str = "fsync=off";

#[derive(Debug, Clone)]
pub struct Servers {
    /// A superuser's, to any database.
    pub database_url: String,
    pub amqp_url: String,
    /// A migrated database to copy.
    pub template: Template,
}

#[derive(Debug, Clone)]
pub struct Template {
    pub name: String,
    /// Its days of history are those around this one.
    pub made_on: NaiveDate,
}

/// The days that the product makes, where a run of the tests has gone on over midnight.
const DAYS_OF_TODAY: &str = "
do $$
declare today date := (now() at time zone 'utc')::date;
begin
  perform posthaste.create_partitions(today - 1, today + 7);
  execute format('drop table if exists posthaste.events_%1$s, posthaste.deliveries_%1$s, posthaste.attempts_%1$s',
                 to_char(today - 2, 'YYYYMMDD'));
end $$";

impl Servers {
    /// A database of this name, as the product makes it today.
    pub async fn create_database(&self, name: &str) -> sqlx::Result<()> {
        let create = format!("create database {name} template {}", self.template.name);
        administer(&self.database_url, create).await?;
        if self.template.made_on < chrono::Utc::now().date_naive() {
            administer(&with_database(&self.database_url, name), DAYS_OF_TODAY.to_owned()).await?;
        }
        Ok(())
    }
}

static SHARED: OnceLock<Result<Servers, String>> = OnceLock::new();
/// The thread that keeps the servers, and the names of databases that it shall drop; it ends with the last sender.
static KEEPER: Mutex<Option<(Sender<String>, std::thread::JoinHandle<()>)>> = Mutex::new(None);

/// Blocks until the servers answer.
pub fn shared() -> Servers {
    match SHARED.get_or_init(start) {
        Ok(servers) => servers.clone(),
        Err(problem) => panic!("{problem}"),
    }
}

/// Names of this run's databases begin with this: the time of its start, for the removal of what is stale.
pub fn run_name() -> &'static str {
    static NAME: OnceLock<String> = OnceLock::new();
    NAME.get_or_init(|| format!("posthaste_it_{}_{}", unix_seconds(), std::process::id()))
}

/// The same server, another database.
pub fn with_database(url: &str, name: &str) -> String {
    let mut url = url::Url::parse(url).expect("the URL of the test database");
    url.set_path(name);
    url.into()
}

/// One statement on the server's own database.
pub async fn administer(database_url: &str, statement: String) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(database_url).await?;
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await?;
    connection.close().await
}

/// Drops a database at some time before the process ends: each drop waits for a checkpoint, and no test needs to.
pub fn drop_later(database: &str) {
    if let Some((databases, _)) = &*KEEPER.lock().unwrap_or_else(PoisonError::into_inner) {
        let _ = databases.send(database.to_owned());
    }
}

/// A thread of its own holds on to the servers, because every test's runtime ends with the test.
fn start() -> Result<Servers, String> {
    let (ready, answer) = channel();
    let (databases, dropping) = channel();
    let keeper = std::thread::spawn(move || keep(&ready, &dropping));
    let servers = answer.recv().map_err(|_| "the thread that starts the servers failed".to_owned())??;
    *KEEPER.lock().unwrap_or_else(PoisonError::into_inner) = Some((databases, keeper));
    unix::at_exit(at_exit);
    Ok(servers)
}

extern "C" fn at_exit() {
    if let Some((databases, keeper)) = KEEPER.lock().unwrap_or_else(PoisonError::into_inner).take() {
        let _ = databases.send(shared().template.name);
        drop(databases);
        let _ = keeper.join();
    }
}

fn keep(ready: &Sender<Result<Servers, String>>, databases: &Receiver<String>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let started = runtime.block_on(async {
        let (database_url, amqp_url, kept) = find().await?;
        let template = make_template(&database_url).await.map_err(|error| format!("the test database: {error}"))?;
        Ok((Servers { database_url, amqp_url, template }, kept))
    });
    let (servers, kept) = match started {
        Ok(started) => started,
        Err(problem) => {
            let _ = ready.send(Err(problem));
            return;
        }
    };
    let _ = ready.send(Ok(servers.clone()));
    while let Ok(name) = databases.recv() {
        // Servers of ours take their databases with them.
        if matches!(kept, Kept::Given) {
            runtime.block_on(drop_for_certain(&servers.database_url, &name));
        }
    }
}

/// What the servers are thrown away with.
enum Kept {
    Given,
    Containers { _until_the_end: Containers },
    Programs { _until_the_end: Box<Native> },
}

/// Sessions of a test that has just ended may take a moment to be gone.
async fn drop_for_certain(database_url: &str, name: &str) {
    const TRIES: u32 = 10;
    for attempt in 1..=TRIES {
        match administer(database_url, drop_database(name)).await {
            Ok(()) => return,
            // PostgreSQL sends no signal when a database's last session is gone.
            Err(_) if attempt < TRIES => tokio::time::sleep(Duration::from_secs(1)).await,
            // Not by the macro: its output would belong to the test that started this thread.
            Err(error) => drop(writeln!(stderr(), "the database {name} could not be dropped: {error}")),
        }
    }
}

fn drop_database(name: &str) -> String {
    format!("drop database if exists {name} with (force)")
}

async fn find() -> Result<(String, String, Kept), String> {
    match (given(DATABASE_VARIABLE), given(AMQP_VARIABLE)) {
        (Some(database), Some(amqp)) => return Ok((database, amqp, Kept::Given)),
        (None, None) => {}
        _ => return Err(format!("set both {DATABASE_VARIABLE} and {AMQP_VARIABLE}, or none of them")),
    }
    let why = match containers().await {
        Ok((database, amqp, containers)) => {
            return Ok((database, amqp, Kept::Containers { _until_the_end: containers }));
        }
        Err(why) => why,
    };
    let native = Native::start(&[NO_SYNC], "").await.map_err(|problem| {
        format!("these tests need servers: run scripts/test, which brings them, or set {DATABASE_VARIABLE} and {AMQP_VARIABLE} (no containers: {why}; no programs: {problem})")
    })?;
    Ok((native.postgres.url(), native.rabbitmq.url(), Kept::Programs { _until_the_end: Box::new(native) }))
}

async fn containers() -> Result<(String, String, Containers), String> {
    if given(SERVERS_VARIABLE).as_deref() == Some("native") {
        return Err(format!("{SERVERS_VARIABLE} is native"));
    }
    if !engine_answers() {
        return Err("no Docker engine answers".to_owned());
    }
    let containers = Containers::start(secret(), &[NO_SYNC, "max_connections=300"])?;
    let up = async || containers.poll().map(|up| up.then_some(())).transpose();
    let up = ask_until(CONTAINER_START, LOOK_AGAIN, up).await;
    up.unwrap_or_else(|| Err(format!("they were not ready within {CONTAINER_START:?}")))?;
    let database = format!("{}/postgres", containers.database_server()?);
    Ok((database, containers.broker_url()?, containers))
}

fn given(variable: &str) -> Option<String> {
    std::env::var(variable).ok().filter(|value| !value.is_empty())
}

/// Migrated once, by the command that operators use.
pub async fn make_template(database_url: &str) -> Result<Template, String> {
    // Before its days are made.
    let made_on = chrono::Utc::now().date_naive();
    let name = format!("{}_template", run_name());
    remove_stale(database_url).await.map_err(|error| error.to_string())?;
    let create = format!("create database {name} encoding 'UTF8' template template0");
    administer(database_url, create).await.map_err(|error| error.to_string())?;
    let migrate = ["migrate", "--database-url", &with_database(database_url, &name)];
    let migrate = command(&migrate, &std::env::temp_dir()).output().map_err(|error| error.to_string())?;
    if migrate.status.success() {
        return Ok(Template { name, made_on });
    }
    let _ = administer(database_url, drop_database(&name)).await;
    Err(String::from_utf8_lossy(&migrate.stderr).into_owned())
}

async fn remove_stale(database_url: &str) -> sqlx::Result<()> {
    let mut connection = PgConnection::connect(database_url).await?;
    let list = "select datname from pg_database where datname like 'posthaste\\_it\\_%'";
    let names: Vec<String> = sqlx::query_scalar(list).fetch_all(&mut connection).await?;
    let started = |name: &str| name.split('_').nth(2).and_then(|seconds| seconds.parse::<u64>().ok());
    let is_stale = |name: &&String| started(name).is_some_and(|at| at + STALE.as_secs() < unix_seconds());
    for name in names.iter().filter(is_stale) {
        sqlx::raw_sql(AssertSqlSafe(drop_database(name))).execute(&mut connection).await?;
    }
    let roles = "select rolname from pg_roles where rolname like 'posthaste\\_it\\_%'";
    let roles: Vec<String> = sqlx::query_scalar(roles).fetch_all(&mut connection).await?;
    for role in roles.iter().filter(is_stale) {
        // One that still has rights in another database is left to the next run.
        let _ = sqlx::raw_sql(AssertSqlSafe(format!("drop role \"{}\"", role.replace('"', "\"\""))))
            .execute(&mut connection)
            .await;
    }
    connection.close().await
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
