//! How many deliveries of each status events have.

use std::collections::{BTreeMap, HashMap};

use sqlx::Arguments as _;
use sqlx::postgres::PgArguments;
use uuid::Uuid;

use super::days::{self, by_day};
use super::events::Event;
use super::{Db, Result};

/// An event with more deliveries than this is not counted: that would take longer than the list it is for.
const MOST_OF_AN_EVENT: i32 = 1_000;
/// Rows after which a statement has enough.
const MOST_OF_A_STATEMENT: i32 = 20_000;

/// Numbers of deliveries by status.
pub type States = BTreeMap<String, i64>;

/// For each of the events that are not too wide.
pub async fn of(db: &Db, events: &[Event]) -> Result<HashMap<Uuid, States>> {
    let narrow = events.iter().filter(|event| event.matched <= MOST_OF_AN_EVENT);
    let mut states: HashMap<Uuid, States> = narrow.clone().map(|event| (event.id, States::new())).collect();
    for (day, events) in by_day(narrow, |event| event.id) {
        for ids in portions(&events) {
            let arguments = || {
                let mut arguments = PgArguments::default();
                arguments.add(&ids)?;
                Ok(arguments)
            };
            let rows: Vec<(Uuid, String, i64)> = days::rows(db, Some(day), COUNTS, &arguments).await?;
            for (event, status, count) in rows {
                states.entry(event).or_default().insert(status, count);
            }
        }
    }
    Ok(states)
}

/// Parts of bounded cost.
fn portions(events: &[&Event]) -> Vec<Vec<Uuid>> {
    let (mut portions, mut portion, mut cost) = (Vec::new(), Vec::new(), 0);
    for event in events {
        portion.push(event.id);
        cost += 1 + event.matched;
        if cost >= MOST_OF_A_STATEMENT {
            portions.push(std::mem::take(&mut portion));
            cost = 0;
        }
    }
    portions.push(portion);
    portions
}

/// Compared as deliveries are with keys (`days::same_key`).
const COUNTS: &str = "select d.event_id, d.status, count(*)
  from unnest($1::uuid[]) as k(id) join posthaste.deliveries{day} d on d.event_id = any (array[k.id])
 group by d.event_id, d.status";
