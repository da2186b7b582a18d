//! Replay: events that an endpoint's filters match and that it was never owed, because it was added or changed later; and
//! the account of requeues and replays.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Db, Result, due};
use crate::domain::ids;

/// Events created in this time are meant.
#[derive(Debug, Clone, Copy)]
pub struct Window {
    pub since: DateTime<Utc>,
    pub until: DateTime<Utc>,
}

impl Window {
    pub fn from(&self) -> Uuid {
        ids::floor(self.since.timestamp_millis())
    }

    pub fn to(&self) -> Uuid {
        ids::floor(self.until.timestamp_millis())
    }
}

/// Recorded events of the window that match the endpoint `ep` and have no delivery to it.
macro_rules! missed {
    () => {
        "posthaste.events e join posthaste.endpoints ep on ep.id = $1 and ep.tenant = e.tenant
           and e.event_type like any (ep.event_like)
          where e.id >= $2 and e.id < $3
            and not exists (select from posthaste.deliveries d where d.event_id = e.id and d.endpoint_id = $1)"
    };
}

pub async fn count(db: &Db, endpoint: Uuid, window: Window) -> Result<i64> {
    db.run(async |c| {
        sqlx::query_scalar(concat!("select count(*) from ", missed!()))
            .bind(endpoint)
            .bind(window.from())
            .bind(window.to())
            .fetch_one(c)
            .await
    })
    .await
}

/// What one batch of a replay made.
#[derive(Debug, Default)]
pub struct Created {
    pub deliveries: u64,
    pub last: Option<Uuid>,
    pub batch: due::Batch,
}

#[derive(sqlx::FromRow)]
struct Row {
    status: String,
    #[sqlx(flatten)]
    listed: due::Listed,
}

/// Makes up to `limit` missing deliveries, in the order of the events' ids from `from` on, and lists the batch under
/// `relay` until it is confirmed. `ceiling` is the attempts that the endpoint's policy allows. For a disabled endpoint they are held, like any other.
pub async fn create(
    db: &Db,
    relay: i64,
    endpoint: Uuid,
    from: Uuid,
    window: Window,
    ceiling: i32,
    limit: i64,
) -> Result<Created> {
    let rows: Vec<Row> = db
        .run(async |c| {
            sqlx::query_as(concat!(
                "with m as materialized (
                   select e.id, least(e.max_attempts, $4) as ceiling,
                          case when ep.status = 'enabled' then 'pending' else 'held' end as status
                     from ",
                missed!(),
                "   order by e.id limit $5
                 ), d as (
                   insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts)
                   select m.id, $1, m.status, m.ceiling from m
                   on conflict do nothing
                   returning event_id, endpoint_id, status, attempts, base_attempts, max_attempts
                 ), b as (
                   insert into posthaste.relay_batches (relay, event_ids, endpoint_ids)
                   select $6, array_agg(d.event_id), array_agg(d.endpoint_id) from d where d.status = 'pending' having count(*) > 0 returning id)
                 select d.*, (select id from b) as batch_id, e.tenant, e.event_type, e.payload::text as payload,
                        e.traceparent
                   from d join posthaste.events e on e.id = d.event_id order by d.event_id"
            ))
            .bind(endpoint)
            .bind(from)
            .bind(window.to())
            .bind(ceiling)
            .bind(limit)
            .bind(relay)
            .fetch_all(c)
            .await
        })
        .await?;
    let deliveries = rows.len() as u64;
    let last = rows.last().map(|row| row.listed.event_id());
    let pending = rows.into_iter().filter(|row| row.status == "pending").map(|row| row.listed).collect::<Vec<_>>();
    Ok(Created { deliveries, last, batch: due::Batch::from(pending) })
}

/// Opens the account of one run.
pub async fn begin(db: &Db, selection: &serde_json::Value, matched: i64) -> Result<i64> {
    db.run(async |c| {
        sqlx::query_scalar("insert into posthaste.requeues (selection, matched) values ($1, $2) returning id")
            .bind(selection)
            .bind(matched)
            .fetch_one(c)
            .await
    })
    .await
}

/// Adds to the account, so that a run that is killed has said what it did.
pub async fn progress(db: &Db, id: i64, requeued: i64, created: i64) -> Result<()> {
    db.run(async |c| {
        sqlx::query("update posthaste.requeues set requeued = $2, created = $3 where id = $1")
            .bind(id)
            .bind(requeued)
            .bind(created)
            .execute(c)
            .await
            .map(drop)
    })
    .await
}

pub async fn finish(db: &Db, id: i64, error: Option<&str>) -> Result<()> {
    db.run(async |c| {
        sqlx::query("update posthaste.requeues set finished_at = now(), error = $2 where id = $1")
            .bind(id)
            .bind(error)
            .execute(c)
            .await
            .map(drop)
    })
    .await
}
