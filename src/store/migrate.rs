//! The schema: embedded migrations, and the two limits that live in the database as functions.

use std::time::Duration;

use sqlx::Connection;
use sqlx::migrate::{MigrateError, Migrator};

use super::{Db, Options, Result, StoreError, connect};

/// What the producers' side of the schema takes from the configuration.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub max_payload_bytes: u32,
    pub idempotency_ttl: Duration,
}

fn migrator() -> Migrator {
    let mut migrator = sqlx::migrate!("src/store/migrations");
    migrator.create_schema("posthaste");
    migrator.dangerous_set_table_name("posthaste.schema_migrations");
    // An older binary beside a newer schema must not stop working during a rolling upgrade.
    migrator.set_ignore_missing(true);
    migrator
}

/// Brings the schema up to date. Safe to run at the same time from several places: an advisory lock orders them.
pub async fn run(options: &Options, limits: Limits) -> Result<()> {
    let options = Options { service: false, ..options.clone() };
    let mut connection = connect::open(&options.connect_options()?, options.connect_timeout).await?;
    // Migrations may rewrite large tables; they are bounded by the operator, not by the service's time-outs.
    sqlx::raw_sql("set statement_timeout = 0; set lock_timeout = '60s'").execute(&mut connection).await?;
    migrator().run(&mut connection).await.map_err(explain)?;
    apply_limits(&mut connection, limits).await?;
    connection.close().await?;
    Ok(())
}

async fn apply_limits(connection: &mut super::Conn, limits: Limits) -> Result<()> {
    // Both values are numbers, so they can be part of the text; `create function` takes no parameters.
    let statement = format!(
        "create or replace function posthaste.max_payload_bytes() returns int language sql stable parallel safe return {};
         create or replace function posthaste.idempotency_ttl() returns interval language sql stable parallel safe
         return interval '{} seconds'",
        limits.max_payload_bytes,
        limits.idempotency_ttl.as_secs()
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(connection).await?;
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
