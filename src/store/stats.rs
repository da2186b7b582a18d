//! Figures for gauges and for `posthaste stats`.

use super::{Db, Result};

/// Deliveries by status. Reads every partition: for a command, not for a gauge.
pub async fn by_status(db: &Db) -> Result<Vec<(String, i64)>> {
    db.run(async |c| {
        sqlx::query_as("select status, count(*) from posthaste.deliveries group by 1 order by 1").fetch_all(c).await
    })
    .await
}

#[derive(Debug, Clone, serde::Serialize, sqlx::FromRow)]
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
