//! Which endpoints have dead deliveries. Dead deliveries are found by their endpoint, and there may be very many of both.

use uuid::Uuid;

use super::requeue::Filter;
use super::{Conn, Db, Result};

/// Endpoints that may have dead deliveries that match (removed ones too), in the order of their ids.
pub async fn that_match(db: &Db, filter: &Filter) -> Result<Vec<Uuid>> {
    if let Some(endpoint) = filter.endpoint {
        return Ok(vec![endpoint]);
    }
    match filter.events.as_slice() {
        [] => match &filter.tenant {
            Some(tenant) if has_few_events(db, tenant).await? => endpoints_of_few(db, tenant).await,
            tenant => endpoints_of(db, tenant.as_deref()).await,
        },
        events => endpoints_of_events(db, events).await,
    }
}

async fn endpoints_of_events(db: &Db, events: &[Uuid]) -> Result<Vec<Uuid>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "select distinct endpoint_id from posthaste.deliveries
              where event_id = any ($1) and status = 'dead' order by endpoint_id",
        )
        .bind(events)
        .fetch_all(c)
        .await
    })
    .await
}

/// Events up to which a tenant's are looked at one by one.
const FEW: i64 = 1_000;

async fn has_few_events(db: &Db, tenant: &str) -> Result<bool> {
    const COUNT: &str =
        "select count(*) from (select from posthaste.events where tenant collate \"C\" = $1 limit $2 + 1) e";
    let count = async |c: &mut Conn| sqlx::query_scalar(COUNT).bind(tenant).bind(FEW).fetch_one(c).await;
    let events: i64 = db.run(count).await?;
    Ok(events <= FEW)
}

/// Of a tenant with few events, however many endpoints others have: its own, and whatever else its events were owed to.
async fn endpoints_of_few(db: &Db, tenant: &str) -> Result<Vec<Uuid>> {
    const DEAD: &str = "
        select distinct d.endpoint_id
          from (select id as event_id from posthaste.events where tenant collate \"C\" = $1 limit $2) e
         cross join lateral (
           select d.endpoint_id from posthaste.deliveries d
            where d.event_id = any (array[e.event_id]) and d.status = 'dead' offset 0) d
         order by 1";
    db.run(async |c| sqlx::query_scalar(DEAD).bind(tenant).bind(FEW).fetch_all(c).await).await
}

/// Of a removed endpoint nobody knows whose it was.
async fn endpoints_of(db: &Db, tenant: Option<&str>) -> Result<Vec<Uuid>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "with recursive h as (
               (select endpoint_id from posthaste.deliveries where status = 'dead' order by endpoint_id limit 1)
               union all
               select (select d.endpoint_id from posthaste.deliveries d
                        where d.status = 'dead' and d.endpoint_id > h.endpoint_id order by d.endpoint_id limit 1)
                 from h where h.endpoint_id is not null)
             select h.endpoint_id from h left join posthaste.endpoints p on p.id = h.endpoint_id
              where h.endpoint_id is not null and ($1::text is null or p.id is null or p.tenant = $1) order by 1",
        )
        .bind(tenant)
        .fetch_all(c)
        .await
    })
    .await
}
