//! Figures for gauges and for `posthaste stats`.

use super::{Db, Result};

/// Deliveries by status. Reads every partition: for a command, not for a gauge.
pub async fn by_status(db: &Db) -> Result<Vec<(String, i64)>> {
    db.run(async |c| {
        sqlx::query_as("select status, count(*) from posthaste.deliveries group by 1 order by 1").fetch_all(c).await
    })
    .await
}

#[derive(Debug, Clone, serde::Serialize, sqlx_macros::FromRow)]
pub struct EndpointFigures {
    pub endpoint_id: uuid::Uuid,
    pub tenant: String,
    pub status: String,
    pub delivered: i64,
    pub pending: i64,
    pub retrying: i64,
    pub held: i64,
    pub dead: i64,
}

/// Per endpoint, over the last 24 hours.
pub async fn by_endpoint(db: &Db, limit: i64) -> Result<Vec<EndpointFigures>> {
    db.run(async |c| {
        sqlx::query_as(
            "select e.id as endpoint_id, e.tenant, e.status,
                    count(*) filter (where d.status = 'delivered') as delivered,
                    count(*) filter (where d.status = 'pending') as pending,
                    count(*) filter (where d.status = 'retrying') as retrying,
                    count(*) filter (where d.status = 'held') as held,
                    count(*) filter (where d.status = 'dead') as dead
               from posthaste.endpoints e
               left join posthaste.deliveries d
                 on d.endpoint_id = e.id and d.event_id >= posthaste.uuid_v7_floor(now() - interval '24 hours')
              group by 1, 2, 3 order by dead desc, held desc, retrying desc, 1 limit $1",
        )
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .await
}

/// Rows that could not be moved out of the outbox and wait for an operator.
pub async fn set_aside(db: &Db) -> Result<i64> {
    db.run(async |c| sqlx::query_scalar("select count(*) from posthaste.set_aside").fetch_one(c).await).await
}

/// What an operator must see before it hurts. Cheap, however much there is.
#[derive(Debug, Clone, Copy, PartialEq, sqlx_macros::FromRow)]
pub struct Watched {
    pub set_aside: i64,
    pub unconfirmed_oldest_age_seconds: f64,
    /// Negative: not even today has partitions.
    pub partition_days_ahead: i32,
    /// Since the schema was made.
    pub operations_left_out: i64,
}

pub async fn watched(db: &Db) -> Result<Watched> {
    db.run(async |c| {
        sqlx::query_as(
            "select (select count(*) from (select from posthaste.set_aside limit 10000) s) as set_aside,
                    coalesce((select extract(epoch from now() - claimed_at) from posthaste.relay_batches
                               order by id limit 1), 0)::float8 as unconfirmed_oldest_age_seconds,
                    (select coalesce(max(to_date(right(c.relname, 8), 'YYYYMMDD')) - (now() at time zone 'utc')::date, -1)
                       from pg_inherits i join pg_class c on c.oid = i.inhrelid
                      where i.inhparent = 'posthaste.events'::regclass and c.relname ~ '_[0-9]{8}$'
                    ) as partition_days_ahead,
                    (select case when is_called then last_value else 0 end from posthaste.operations_left_out)
                      as operations_left_out",
        )
        .fetch_one(c)
        .await
    })
    .await
}

/// Deliveries not yet delivered, dead or held; from the partial index.
pub async fn unfinished(db: &Db) -> Result<i64> {
    db.run(async |c| {
        sqlx::query_scalar("select count(*) from posthaste.deliveries where status in ('pending', 'retrying')")
            .fetch_one(c)
            .await
    })
    .await
}

/// Deliveries of the last day to these endpoints that have reached an end.
pub async fn settled(db: &Db, endpoints: &[uuid::Uuid]) -> Result<i64> {
    db.run(async |c| {
        sqlx::query_scalar(
            "select count(*) from posthaste.deliveries
              where endpoint_id = any ($1) and status in ('delivered', 'dead')
                and event_id >= posthaste.uuid_v7_floor(now() - interval '24 hours')",
        )
        .bind(endpoints)
        .fetch_one(c)
        .await
    })
    .await
}
