//! The schema: embedded migrations, and the settings that live in the database as functions.

use std::time::Duration;

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{AssertSqlSafe, Connection};

use super::{Conn, Db, Options, Result, StoreError, ahead, connect, migrations};

/// What the schema takes from the configuration.
#[derive(Debug, Clone)]
pub struct Settings {
    pub max_payload_bytes: u32,
    pub idempotency_ttl: Duration,
    /// Who hears of events about events.
    pub operations_tenant: Option<String>,
}

fn migrator() -> Migrator {
    let mut migrator = Migrator::with_migrations(migrations::all());
    migrator.create_schema("posthaste");
    migrator.dangerous_set_table_name("posthaste.schema_migrations");
    // An older binary beside a newer schema must not stop working during a rolling upgrade.
    migrator.set_ignore_missing(true);
    migrator
}

/// Two-key advisory lock: one migration at a time.
const TURN: (i32, i32) = (0x7068_0003, 1);
const ASK: Duration = Duration::from_millis(250);

/// A migration waits so long for a lock, and everybody who comes after waits behind it: claims and settlements too.
const LOCK_TIMEOUT: &str = "1s";
/// Then it lets them go on, and tries again.
const PAUSE: Duration = Duration::from_secs(1);
const TRIES: u32 = 60;
/// Somebody has locked what is needed, or waits for what we have.
const LOCKED: [&str; 2] = ["55P03", "40P01"];

/// Brings the schema up to date. Safe to run at the same time from several places, and beside a system at work.
pub async fn run(options: &Options, settings: &Settings) -> Result<()> {
    let options = Options { service: false, ..options.clone() };
    let turn = turn(&options).await?;
    let mut tries = 1;
    let done = loop {
        match once(&options, settings).await {
            Err(error) if tries < TRIES && error.code().is_some_and(|code| LOCKED.contains(&code)) => {
                tracing::warn!(%error, tries, "somebody uses what is to be changed; trying again");
                tokio::time::sleep(PAUSE).await;
                tries += 1;
            }
            done => break done,
        }
    };
    // Its end releases the lock.
    turn.close().await?;
    done
}

/// Waits until no other migration runs. The migrator has a lock of its own, but makes its schema before it takes it. Asked
/// again and again: a statement that waits has a snapshot, and an index that is made concurrently would wait for it.
async fn turn(options: &Options) -> Result<Conn> {
    let mut connection = open(options).await?;
    let (class, key) = TURN;
    let mut is_waiting = false;
    loop {
        let lock = sqlx::query_scalar("select pg_try_advisory_lock($1, $2)").bind(class).bind(key);
        if lock.fetch_one(&mut connection).await? {
            return Ok(connection);
        }
        if !std::mem::replace(&mut is_waiting, true) {
            tracing::info!("another migration is running; waiting for it");
        }
        tokio::time::sleep(ASK).await;
    }
}

/// A migration that fails leaves nothing; those before it are done. A connection for each try: one that failed still has
/// the migrator's lock.
async fn once(options: &Options, settings: &Settings) -> Result<()> {
    let mut connection = open(options).await?;
    ahead::build(&mut connection).await?;
    sqlx::raw_sql(AssertSqlSafe(format!("set lock_timeout = '{LOCK_TIMEOUT}'"))).execute(&mut connection).await?;
    migrator().run(&mut connection).await.map_err(explain)?;
    apply(&mut connection, settings).await?;
    connection.close().await?;
    Ok(())
}

/// Migrations may rewrite large tables; they are bounded by the operator, not by the service's time-outs.
async fn open(options: &Options) -> Result<Conn> {
    let mut connection = connect::open(&options.servers()?, options.connect_timeout).await?;
    sqlx::raw_sql("set statement_timeout = 0; set lock_timeout = 0").execute(&mut connection).await?;
    Ok(connection)
}

async fn apply(connection: &mut Conn, settings: &Settings) -> Result<()> {
    // `create function` takes no parameters. Numbers can be part of the text, and the server quotes the name of a tenant.
    let quoted = "select format('%L', $1::text)";
    let tenant: String =
        sqlx::query_scalar(quoted).bind(&settings.operations_tenant).fetch_one(&mut *connection).await?;
    let statement = format!(
        "create or replace function posthaste.max_payload_bytes() returns int language sql stable parallel safe return {};
         create or replace function posthaste.idempotency_ttl() returns interval language sql stable parallel safe
         return interval '{} seconds';
         create or replace function posthaste.operations_tenant() returns text language sql stable parallel safe
         return {tenant}::text",
        settings.max_payload_bytes,
        settings.idempotency_ttl.as_secs()
    );
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}

fn explain(error: MigrateError) -> StoreError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => error.into(),
        MigrateError::VersionMismatch(version) => StoreError::Other(format!(
            "migration {version} was applied with another text; this database belongs to another build of posthaste"
        )),
        other => StoreError::Other(other.to_string()),
    }
}

/// Whether the schema is there and complete for this binary.
pub async fn missing(db: &Db) -> Result<Vec<i64>> {
    let applied: std::result::Result<Vec<i64>, StoreError> = db
        .run(async |c| {
            sqlx::query_scalar("select version from posthaste.schema_migrations where success").fetch_all(c).await
        })
        .await;
    let applied = match applied {
        Ok(applied) => applied,
        Err(error) if matches!(error.code(), Some("42P01" | "3F000")) => Vec::new(),
        Err(error) => return Err(error),
    };
    Ok(migrator().iter().map(|migration| migration.version).filter(|version| !applied.contains(version)).collect())
}
