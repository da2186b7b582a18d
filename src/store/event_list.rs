//! Listing events: the newest first, a slice of the history at a time, and how many more there are.

use chrono::{DateTime, Utc};
use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::days::Arguments;
use super::events::Event;
use super::slices::{Order, Slice, Slices};
use super::{Db, Result, days};
use crate::domain::delivery::Status;
use crate::domain::ids;
use crate::domain::left::{Left, MOST_COUNTED};

/// Slices that are read only to count what is left.
const COUNTED_SLICES: u32 = 10;

/// Which events are meant. Conditions on a delivery are met by one and the same.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub tenant: Option<String>,
    pub event_type: Option<String>,
    /// For SQL's LIKE.
    pub like: Option<String>,
    pub status: Option<Status>,
    pub endpoint: Option<Uuid>,
    pub code: Option<i32>,
    pub since: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
    /// Only events with a lower id.
    pub before: Option<Uuid>,
    pub limit: i64,
}

impl Filter {
    fn asks_for_deliveries(&self) -> bool {
        self.status.is_some() || self.endpoint.is_some() || self.code.is_some()
    }

    fn slices(&self) -> (Uuid, Uuid) {
        let at = |time: DateTime<Utc>| ids::floor(time.timestamp_millis());
        let until = self.until.map_or(Uuid::max(), at);
        (self.since.map_or(Uuid::nil(), at), until.min(self.before.unwrap_or(Uuid::max())))
    }
}

/// The newest events that match, and how many more there are. A slice at a time: for a filter that few events meet, much of
/// the history may be read, but never in one statement.
pub async fn page(db: &Db, filter: &Filter) -> Result<(Vec<Event>, Left)> {
    let (from, to) = filter.slices();
    let mut slices = match &filter.tenant {
        Some(tenant) => Slices::of_tenant(db, tenant, from, to, Order::NewestFirst).await?,
        None => Slices::new(db, from, to, Order::NewestFirst).await?,
    };
    let mut events: Vec<Event> = Vec::new();
    while let Some(slice) = slices.next(db).await? {
        let limit = filter.limit - events.len() as i64;
        let found: Vec<Event> =
            days::rows(db, slice.day(), EVENTS.of(filter), &|| arguments(filter, &slice, limit)).await?;
        events.extend(found);
        if events.len() as i64 >= filter.limit {
            let last = events.last().map_or(slice.to, |event| event.id);
            let left = left(db, filter, Slice { to: last, ..slice }, &mut slices).await?;
            return Ok((events, left));
        }
    }
    Ok((events, Left::none()))
}

/// Counts what comes after a page, within bounds.
async fn left(db: &Db, filter: &Filter, rest: Slice, slices: &mut Slices) -> Result<Left> {
    let (mut count, mut slice) = (0, Some(rest));
    for _ in 0..COUNTED_SLICES {
        let Some(part) = slice else { return Ok(Left::exactly(count)) };
        let most = MOST_COUNTED - count;
        let rows: Vec<(i64,)> =
            days::rows(db, part.day(), COUNT.of(filter), &|| arguments(filter, &part, most)).await?;
        count += rows.first().map_or(0, |(count,)| *count);
        if count >= MOST_COUNTED {
            break;
        }
        slice = slices.next(db).await?;
    }
    Ok(if slice.is_none() { Left::exactly(count) } else { Left::at_least(count) })
}

/// The values of a statement, all of which have the same.
fn arguments(filter: &Filter, slice: &Slice, limit: i64) -> Arguments {
    let mut arguments = PgArguments::default();
    arguments.add(slice.from)?;
    arguments.add(slice.to)?;
    arguments.add(&filter.tenant)?;
    arguments.add(&filter.event_type)?;
    arguments.add(&filter.like)?;
    arguments.add(limit)?;
    if filter.asks_for_deliveries() {
        arguments.add(filter.status.map(Status::as_str))?;
        arguments.add(filter.endpoint)?;
        arguments.add(filter.code)?;
    }
    Ok(arguments)
}

/// A statement for all tenants and for one, each without conditions on deliveries and with them. What is optional cannot use an
/// index.
struct Texts {
    everyone: [&'static str; 2],
    one: [&'static str; 2],
}

impl Texts {
    fn of(&self, filter: &Filter) -> &'static str {
        let texts = if filter.tenant.is_some() { &self.one } else { &self.everyone };
        texts[usize::from(filter.asks_for_deliveries())]
    }
}

macro_rules! everyone {
    () => {
        "$3::text is null"
    };
}
macro_rules! one {
    () => {
        "e.tenant collate \"C\" = $3"
    };
}
macro_rules! matching {
    ($tenant:expr) => {
        concat!(
            " from posthaste.events{day} e where e.id >= $1 and e.id < $2 and ",
            $tenant,
            " and ($4::text is null or e.event_type = $4) and ($5::text is null or e.event_type like $5)"
        )
    };
}
/// Compared as deliveries are with keys (`days::same_key`): each event is looked up.
macro_rules! with_delivery {
    () => {
        " and exists (select from posthaste.deliveries{day} d
                       where d.event_id = any (array[e.id]) and ($7::text is null or d.status = $7)
                         and ($8::uuid is null or d.endpoint_id = $8) and ($9::int is null or d.last_status_code = $9))"
    };
}
macro_rules! events {
    ($tenant:expr, $more:expr) => {
        concat!(
            "select e.id, e.tenant, e.event_type, e.idempotency_key, e.max_attempts, e.traceparent, e.created_at,
                    e.published_at, e.matched, octet_length(e.payload::text) as payload_bytes, e.erased_at",
            matching!($tenant),
            $more,
            " order by e.id desc limit $6"
        )
    };
}
macro_rules! count {
    ($tenant:expr, $more:expr) => {
        concat!("select count(*) from (select e.id", matching!($tenant), $more, " limit $6) c")
    };
}

const EVENTS: Texts = Texts {
    everyone: [events!(everyone!(), ""), events!(everyone!(), with_delivery!())],
    one: [events!(one!(), ""), events!(one!(), with_delivery!())],
};
const COUNT: Texts = Texts {
    everyone: [count!(everyone!(), ""), count!(everyone!(), with_delivery!())],
    one: [count!(one!(), ""), count!(one!(), with_delivery!())],
};
