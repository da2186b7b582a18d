//! `event list`.

use std::collections::HashMap;

use serde::Serialize;
use uuid::Uuid;

use super::super::compose;
use super::super::failure::Outcome;
use super::super::output::{self, time};
use crate::cli::ListEvents;
use crate::config::Config;
use crate::store::event_list::{self, Filter};
use crate::store::event_states::{self, States};
use crate::store::events::Event;
use crate::telemetry::logging;

pub async fn run(config: &Config, args: ListEvents) -> Outcome {
    let db = compose::command_db(config)?;
    let filter = Filter {
        tenant: args.tenant,
        event_type: args.event_type,
        like: args.like,
        status: args.status,
        endpoint: args.endpoint,
        code: args.code,
        since: args.since,
        until: args.until,
        before: args.before,
        limit: args.limit,
    };
    let (events, left) = event_list::page(&db, &filter).await?;
    let last = events.last().map(|event| event.id);
    let states = event_states::of(&db, &events).await?;
    if args.output.json {
        output::json(&with_states(events, &states))?;
    } else {
        let rows = with_states(events, &states).into_iter().map(cells);
        output::table(&["id", "tenant", "type", "created", "endpoints", "deliveries", "bytes"], rows)?;
    }
    if let Some(last) = last.filter(|_| !left.is_none()) {
        // Not on stdout, which is the list and nothing else.
        logging::say(&format!("{left}; the next page: --before {last}"));
    }
    Ok(())
}

/// An event of the list.
#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    event: Event,
    /// By status; null where there are too many to count.
    deliveries: Option<&'a States>,
}

fn with_states(events: Vec<Event>, states: &HashMap<Uuid, States>) -> Vec<Row<'_>> {
    events.into_iter().map(|event| Row { deliveries: states.get(&event.id), event }).collect()
}

fn cells(row: Row<'_>) -> Vec<String> {
    let deliveries = row.deliveries.map_or("many".into(), in_words);
    let Event { id, tenant, event_type, created_at, matched, payload_bytes, .. } = row.event;
    let (matched, bytes) = (matched.to_string(), payload_bytes.to_string());
    vec![id.to_string(), tenant, event_type, time(created_at), matched, deliveries, bytes]
}

/// For instance `2 dead, 5 delivered`.
fn in_words(states: &States) -> String {
    let parts: Vec<String> = states.iter().map(|(status, count)| format!("{count} {status}")).collect();
    if parts.is_empty() { "none".into() } else { parts.join(", ") }
}
