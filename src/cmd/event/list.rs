//! `event list`.

use super::super::compose;
use super::super::failure::Outcome;
use super::super::output::{self, time};
use crate::cli::ListEvents;
use crate::config::Config;
use crate::store::event_list::{self, Filter};
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
    if args.output.json {
        output::json(&events)?;
    } else {
        let rows = events.into_iter().map(|event| {
            vec![
                event.id.to_string(),
                event.tenant,
                event.event_type,
                time(event.created_at),
                event.matched.to_string(),
                event.payload_bytes.to_string(),
            ]
        });
        output::table(&["id", "tenant", "type", "created", "endpoints", "bytes"], rows)?;
    }
    if let Some(last) = last.filter(|_| !left.is_none()) {
        // Not on stdout, which is the list and nothing else.
        logging::say(&format!("{left}; the next page: --before {last}"));
    }
    Ok(())
}
