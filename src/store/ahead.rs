//! Indexes of large tables, made before the migration that makes them.
//!
//! A migration is a transaction, and an index that is made in one keeps writers out until it is complete. On a partitioned
//! table it cannot be made concurrently either; but there a migration takes what it finds: an index that a partition
//! already has is attached, and none is built. So each partition gets its index here, concurrently.

use sqlx::AssertSqlSafe;

use super::{Conn, Result};

struct Index {
    /// The migration that makes it.
    version: i64,
    table: &'static str,
    definition: &'static str,
}

const ALL: [Index; 2] = [
    Index { version: 8, table: "deliveries", definition: "(endpoint_id, next_attempt_at) where status = 'held'" },
    Index { version: 31, table: "events", definition: "(tenant collate \"C\", id)" },
];

/// Makes what is still to come. It waits for open transactions, and keeps nobody out while it does.
pub(super) async fn build(connection: &mut Conn) -> Result<()> {
    for index in &ALL {
        if is_to_come(connection, index).await? {
            for partition in partitions(connection, index.table).await? {
                build_one(connection, index, &partition).await?;
            }
        }
    }
    Ok(())
}

/// The table is there, and the migration is not done.
async fn is_to_come(connection: &mut Conn, index: &Index) -> Result<bool> {
    let there = sqlx::query_scalar(
        "select to_regclass('posthaste.' || $1) is not null and to_regclass('posthaste.schema_migrations') is not null",
    );
    if !there.bind(index.table).fetch_one(&mut *connection).await? {
        return Ok(false);
    }
    let to_come = sqlx::query_scalar("select not exists (select from posthaste.schema_migrations where version = $1)");
    Ok(to_come.bind(index.version).fetch_one(connection).await?)
}

async fn partitions(connection: &mut Conn, table: &str) -> Result<Vec<String>> {
    let names = sqlx::query_scalar(
        "select c.relname::text from pg_inherits i join pg_class c on c.oid = i.inhrelid
          where i.inhparent = ('posthaste.' || $1)::regclass order by 1",
    );
    Ok(names.bind(table).fetch_all(connection).await?)
}

/// One that was begun and not finished is of no use, and is made again. Names of partitions are letters and digits.
async fn build_one(connection: &mut Conn, index: &Index, partition: &str) -> Result<()> {
    let name = format!("{partition}_v{}", index.version);
    let valid =
        sqlx::query_scalar("select indisvalid from pg_index where indexrelid = to_regclass('posthaste.' || $1)");
    let valid: Option<bool> = valid.bind(&name).fetch_optional(&mut *connection).await?;
    if valid == Some(true) {
        return Ok(());
    }
    if valid == Some(false) {
        let drop = format!("drop index concurrently posthaste.{name}");
        sqlx::raw_sql(AssertSqlSafe(drop)).execute(&mut *connection).await?;
    }
    tracing::info!(index = name, "making an index beside what goes on");
    let create = format!("create index concurrently {name} on posthaste.{partition} {}", index.definition);
    sqlx::raw_sql(AssertSqlSafe(create)).execute(connection).await?;
    Ok(())
}
