//! Replay: events that an endpoint's filters match and that it was never owed, because it was added or changed later.

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::due::{self, is_sent_to, list_and_return};
use super::held::unless_dropped;
use super::slices::{Order, Slice, Slices};
use super::{Conn, Db, Result};
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

/// Recorded events of a slice that match the endpoint `ep` and have no delivery to it. Compared as deliveries are with keys
/// (`days::same_key`): each event is looked up.
fn missed(slice: &Slice) -> String {
    format!(
        "{events} e join posthaste.endpoints ep on ep.id = $1 and ep.tenant = e.tenant collate \"C\"
           and e.event_type like any (ep.event_like)
          where e.id >= $2 and e.id < $3 and e.erased_at is null
            and not exists (select from {deliveries} d where d.event_id = any (array[e.id]) and d.endpoint_id = $1)",
        events = slice.table("events"),
        deliveries = slice.table("deliveries"),
    )
}

/// The slices of a window that has events for the endpoint, oldest first.
pub async fn slices(db: &Db, endpoint: Uuid, window: Window) -> Result<Slices> {
    let tenant: Option<String> = db
        .run(async |c| {
            let tenant = sqlx::query_scalar("select tenant from posthaste.endpoints where id = $1");
            tenant.bind(endpoint).fetch_optional(c).await
        })
        .await?;
    let (from, to) = (window.from(), window.to());
    match tenant {
        Some(tenant) => Slices::of_tenant(db, &tenant, from, to, Order::OldestFirst).await,
        // Without the endpoint nothing matches.
        None => Slices::new(db, to, to, Order::OldestFirst).await,
    }
}

pub async fn count(db: &Db, endpoint: Uuid, slice: &Slice) -> Result<i64> {
    let text = format!("select count(*) from {}", missed(slice));
    let count = async |c: &mut Conn| {
        let query = sqlx::query_scalar(AssertSqlSafe(text)).bind(endpoint).bind(slice.from).bind(slice.to);
        query.fetch_one(c).await
    };
    unless_dropped(db.run(count).await)
}

/// What a replay makes deliveries with.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    pub endpoint: Uuid,
    /// Attempts that its policy allows.
    pub ceiling: i32,
    /// What it gets is held, behind what it waits for.
    pub behind: bool,
}

/// Makes up to `limit` missing deliveries of the slice, in the order of the events' ids, and lists the batch under `relay`
/// until it is confirmed. Where the endpoint is not enabled, its circuit not closed, or it is behind, they are held, as a
/// claim would hold them.
pub async fn create(db: &Db, relay: i64, terms: Terms, slice: &Slice, limit: i64) -> Result<due::Made> {
    let text = format!(
        concat!(
            "with m as materialized (
           select e.id, least(e.max_attempts, $4) as ceiling,
                  case when ",
            is_sent_to!(),
            " and not $7 then 'pending' else 'held' end as status
             from {missed} order by e.id limit $5
         ), u as (
           insert into posthaste.deliveries (event_id, endpoint_id, status, max_attempts)
           select m.id, $1, m.status, m.ceiling from m
           on conflict do nothing
           returning event_id, endpoint_id, status, attempts, base_attempts, max_attempts)",
            list_and_return!(relay = "$6", due = "u.status = 'pending'", events = "{events}")
        ),
        missed = missed(slice),
        events = slice.table("events"),
    );
    let create = async |c: &mut Conn| {
        let query = sqlx::query_as::<_, due::Written>(AssertSqlSafe(text));
        let query = query.bind(terms.endpoint).bind(slice.from).bind(slice.to).bind(terms.ceiling).bind(limit);
        query.bind(relay).bind(terms.behind).fetch_all(c).await
    };
    Ok(due::Made::from(unless_dropped(db.run(create).await)?))
}
