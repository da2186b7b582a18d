//! Which delay queues were ever declared: the broker cannot be asked for a list over AMQP, so the database remembers.

use chrono::{DateTime, Utc};

use super::{Db, Result};

#[derive(Debug, Clone, PartialEq, Eq, sqlx_macros::FromRow)]
pub struct Known {
    pub name: String,
    pub ttl_ms: i64,
    /// When it was unbound to be deleted later; null while in use.
    pub retired_at: Option<DateTime<Utc>>,
    /// Whether its last message has expired and been moved on for certain, by the database's clock.
    pub drained: bool,
}

/// Remembers queues that were just declared; a queue that had been retired is in use again.
pub async fn remember(db: &Db, queues: &[(String, u64)]) -> Result<()> {
    let (names, ttls): (Vec<&str>, Vec<i64>) = queues.iter().map(|(name, ttl)| (name.as_str(), *ttl as i64)).unzip();
    db.run(async |c| {
        sqlx::query(
            "insert into posthaste.delay_queues (name, ttl_ms)
             select * from unnest($1::text[], $2::bigint[]) as q(name, ttl_ms) order by 1
             on conflict (name) do update set retired_at = null where delay_queues.retired_at is not null",
        )
        .bind(&names)
        .bind(&ttls)
        .execute(c)
        .await
        .map(drop)
    })
    .await
}

/// Every queue remembered under a prefix. Drained means: its time to live and the broker's longest stall are past.
pub async fn known(db: &Db, prefix: &str) -> Result<Vec<Known>> {
    db.run(async |c| {
        sqlx::query_as(
            "select name, ttl_ms, retired_at,
                    coalesce(now() > retired_at + ttl_ms * interval '1 millisecond' + interval '200 seconds', false)
                      as drained
               from posthaste.delay_queues where starts_with(name, $1 || '.delay.') order by ttl_ms, name",
        )
        .bind(prefix)
        .fetch_all(c)
        .await
    })
    .await
}

pub async fn retire(db: &Db, name: &str) -> Result<()> {
    db.run(async |c| {
        sqlx::query("update posthaste.delay_queues set retired_at = now() where name = $1 and retired_at is null")
            .bind(name)
            .execute(c)
            .await
            .map(drop)
    })
    .await
}

pub async fn forget(db: &Db, name: &str) -> Result<()> {
    db.run(async |c| {
        sqlx::query("delete from posthaste.delay_queues where name = $1").bind(name).execute(c).await.map(drop)
    })
    .await
}
