//! What the doctor reads of the server and the schema. Each statement is cheap, and changes nothing.

use chrono::NaiveDate;

use super::roles::{self, Role};
use super::{Db, Result, held};
use crate::domain::doctor::database::Oldest;

#[derive(Debug, Clone, sqlx_macros::FromRow)]
pub struct Server {
    pub version: i32,
    pub is_standby: bool,
    /// Its clock, in Unix milliseconds.
    pub now_ms: f64,
    pub user: String,
}

pub async fn server(db: &Db) -> Result<Server> {
    db.run(async |c| {
        sqlx::query_as(
            "select current_setting('server_version_num')::int as version, pg_is_in_recovery() as is_standby,
                    (extract(epoch from clock_timestamp()) * 1000)::float8 as now_ms, current_user::text as user",
        )
        .fetch_one(c)
        .await
    })
    .await
}

#[derive(sqlx_macros::FromRow)]
struct Held {
    transaction_s: f64,
    prepared_s: f64,
    slots: i64,
    hidden: i64,
}

/// Of the whole server: rows are held back by transactions in other databases, too.
pub async fn oldest_transaction(db: &Db) -> Result<Oldest> {
    let held: Held = db
        .run(async |c| {
            sqlx::query_as(
                "select coalesce((select max(extract(epoch from now() - xact_start)) from pg_stat_activity
                                   where pid <> pg_backend_pid()), 0)::float8 as transaction_s,
                        coalesce((select max(extract(epoch from now() - prepared)) from pg_prepared_xacts), 0)::float8 as prepared_s,
                        (select count(*) from pg_replication_slots where xmin is not null) as slots,
                        (select count(*) from pg_stat_activity where query = '<insufficient privilege>') as hidden",
            )
            .fetch_one(c)
            .await
        })
        .await?;
    let Held { transaction_s, prepared_s, slots, hidden } = held;
    Ok(Oldest { transaction_s, prepared_s, slots, hidden })
}

/// The days that have partitions, in order.
pub async fn days(db: &Db) -> Result<Vec<NaiveDate>> {
    Ok(held::days(db).await?.iter().map(|day| day.date()).collect())
}

/// Signing secrets by the id of the key that sealed them, the most first.
pub async fn sealed_by(db: &Db) -> Result<Vec<(String, i64)>> {
    db.run(async |c| {
        sqlx::query_as(
            "select key_id, count(*) from posthaste.endpoint_secrets group by 1 order by 2 desc, 1 limit 100",
        )
        .fetch_all(c)
        .await
    })
    .await
}

/// An endpoint with a secret that this key has sealed, the latest one.
pub async fn sealed_with(db: &Db, key_id: &str) -> Result<Option<uuid::Uuid>> {
    let latest = "select endpoint_id from posthaste.endpoint_secrets where key_id = $1 order by id desc limit 1";
    db.run(async |c| sqlx::query_scalar(latest).bind(key_id).fetch_optional(c).await).await
}

/// The age of the newest marker of each work queue, in seconds.
pub async fn marker_ages(db: &Db) -> Result<Vec<(String, f64)>> {
    db.run(async |c| {
        sqlx::query_as(
            "select queue, extract(epoch from now() - max(recorded_at))::float8 from posthaste.markers
              group by 1 order by 1 limit 10",
        )
        .fetch_all(c)
        .await
    })
    .await
}

/// What a role of the database lacks to be this part. `None`: there is no such role, or it is one of another installation: roles
/// belong to the whole server.
pub async fn lacking(db: &Db, database_role: &str, part: Role, by_reference: bool) -> Result<Option<Vec<String>>> {
    let used =
        "select exists (select from pg_roles where rolname = $1 and has_schema_privilege(oid, 'posthaste', 'usage'))";
    let is_used: bool = db.run(async |c| sqlx::query_scalar(used).bind(database_role).fetch_one(c).await).await?;
    if !is_used {
        return Ok(None);
    }
    let needed: Vec<roles::Right> = roles::rights(part, by_reference);
    let column = |of: fn(&roles::Right) -> &str| needed.iter().map(of).collect::<Vec<&str>>();
    let (kinds, names) = (column(|right| right.kind), column(|right| right.name));
    let (privileges, columns) = (column(|right| &right.privilege), column(|right| &right.column));
    let lacking: Vec<i64> = db
        .run(async |c| {
            sqlx::query_scalar(LACKING)
                .bind(database_role)
                .bind(kinds)
                .bind(names)
                .bind(privileges)
                .bind(columns)
                .fetch_all(c)
                .await
        })
        .await?;
    Ok(Some(lacking.into_iter().map(|place| needed[place as usize - 1].to_string()).collect()))
}

const LACKING: &str = "
select k.place from unnest($2::text[], $3::text[], $4::text[], $5::text[]) with ordinality as k(kind, name, privilege, col, place)
 where not case
   when k.kind = 'function' then has_function_privilege($1::name, 'posthaste.' || k.name, k.privilege)
   when k.kind = 'sequence' then has_sequence_privilege($1::name, 'posthaste.' || k.name, k.privilege)
   when k.col = '' then has_table_privilege($1::name, 'posthaste.' || k.name, k.privilege)
   else has_column_privilege($1::name, 'posthaste.' || k.name, k.col, k.privilege) end
 order by k.place";
