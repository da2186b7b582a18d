//! The outbox: what producers have committed and the relay has not moved yet.

use uuid::Uuid;

use super::{Db, Result};
use crate::domain::few::{ENDPOINTS, LOOK, Seen};

#[derive(Debug, Clone, Copy, PartialEq, sqlx_macros::FromRow)]
pub struct Backlog {
    pub pending: i64,
    pub oldest_age_seconds: f64,
}

/// How much waits. Counting stops at 100 000 so that the gauge stays cheap in a backlog.
pub async fn backlog(db: &Db) -> Result<Backlog> {
    db.run(async |c| {
        sqlx::query_as(
            "select (select count(*) from (select from posthaste.outbox limit 100000) o) as pending,
                    coalesce(extract(epoch from now() - (select created_at from posthaste.outbox order by id limit 1)), 0)
                      ::float8 as oldest_age_seconds",
        )
        .fetch_one(c)
        .await
    })
    .await
}

/// The bytes of a payload in the outbox. What is stored as it is need not be read.
macro_rules! payload_bytes {
    () => {
        "case when pg_column_compression(o.payload) is null then pg_column_size(o.payload)
              else octet_length(o.payload::text) end"
    };
}
pub(super) use payload_bytes;

/// What a look shows of a row.
macro_rules! seen {
    () => {
        concat!(
            "o.id, o.tenant, (",
            payload_bytes!(),
            ")::int8 as bytes,
            (select count(*) from (select from posthaste.endpoints e where e.tenant = o.tenant limit $2 + 1) n) as endpoints"
        )
    };
}

/// The oldest rows, a few of them. What others have locked is seen as well.
pub async fn look(db: &Db) -> Result<Vec<Seen>> {
    const LOOKED: &str = concat!("select ", seen!(), " from posthaste.outbox o order by o.id limit $1");
    let rows = db.run(async |c| sqlx::query_as(LOOKED).bind(LOOK as i64).bind(ENDPOINTS).fetch_all(c).await).await?;
    Ok(rows.into_iter().map(seen).collect())
}

/// A few rows of other tenants than these, tenant by tenant in the index.
pub async fn look_beside(db: &Db, crowded: &[String]) -> Result<Vec<Seen>> {
    const LOOKED: &str = concat!(
        "with recursive t as (
           (select o.tenant collate \"C\" as tenant from posthaste.outbox o order by o.tenant collate \"C\" limit 1)
           union all
           select (select o.tenant collate \"C\" from posthaste.outbox o where o.tenant collate \"C\" > t.tenant
                    order by o.tenant collate \"C\" limit 1)
             from t where t.tenant is not null
         )
         select r.* from t cross join lateral (
           select ",
        seen!(),
        " from posthaste.outbox o
            where (o.tenant collate \"C\", o.id) >= (t.tenant, '00000000-0000-0000-0000-000000000000')
              and o.tenant collate \"C\" <= t.tenant
            order by o.tenant collate \"C\", o.id limit $1) r
          where t.tenant <> all ($3) limit $1"
    );
    let rows = db
        .run(async |c| sqlx::query_as(LOOKED).bind(LOOK as i64).bind(ENDPOINTS).bind(crowded).fetch_all(c).await)
        .await?;
    Ok(rows.into_iter().map(seen).collect())
}

fn seen((id, tenant, bytes, endpoints): (Uuid, String, i64, i64)) -> Seen {
    Seen { id, tenant, bytes, endpoints }
}

/// The tenant and the id of the row that a claim of one row takes, when the one before ended with the tenant `after`.
pub async fn next_in_turn(db: &Db, after: &str) -> Result<Option<(String, Uuid)>> {
    db.run(async |c| {
        sqlx::query_as(
            "select tenant, id from (
               (select 1 as round, tenant, id from posthaste.outbox where tenant collate \"C\" > $1
                 order by tenant collate \"C\", id limit 1)
               union all
               (select 2, tenant, id from posthaste.outbox where tenant collate \"C\" <= $1
                 order by tenant collate \"C\", id limit 1)) o
              order by round limit 1",
        )
        .bind(after)
        .fetch_optional(c)
        .await
    })
    .await
}

/// Takes a row that cannot be moved out of the way, with the reason. It stays in `set_aside` for the operator.
pub async fn set_aside(db: &Db, id: Uuid, error: &str) -> Result<bool> {
    let moved = db
        .run(async |c| {
            sqlx::query(
                "with o as (delete from posthaste.outbox where id = $1
                   returning id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at)
                 insert into posthaste.set_aside
                   (id, tenant, event_type, payload, idempotency_key, max_attempts, traceparent, created_at, error)
                 select o.*, $2 from o",
            )
            .bind(id)
            .bind(error)
            .execute(c)
            .await
        })
        .await?;
    Ok(moved.rows_affected() > 0)
}

pub struct NewEvent<'a> {
    pub tenant: &'a str,
    pub event_type: &'a str,
    pub payload: &'a str,
    pub idempotency_key: Option<&'a str>,
    pub max_attempts: Option<i32>,
    pub traceparent: Option<&'a str>,
}

/// Emits one event the way any producer does.
pub async fn emit(db: &Db, event: NewEvent<'_>) -> Result<Uuid> {
    db.run(async |c| {
        sqlx::query_scalar("select posthaste.emit($1, $2, $3::text::json, $4, $5, $6)")
            .bind(event.tenant)
            .bind(event.event_type)
            .bind(event.payload)
            .bind(event.idempotency_key)
            .bind(event.max_attempts)
            .bind(event.traceparent)
            .fetch_one(c)
            .await
    })
    .await
}

/// Emits the same payload `count` times in one transaction, for benchmarks.
pub async fn emit_many(db: &Db, tenant: &str, event_type: &str, payload: &str, count: i32) -> Result<()> {
    db.run(async |c| {
        sqlx::query("select posthaste.emit($1, $2, $3::text::json) from generate_series(1, $4)")
            .bind(tenant)
            .bind(event_type)
            .bind(payload)
            .bind(count)
            .execute(c)
            .await
            .map(drop)
    })
    .await
}
