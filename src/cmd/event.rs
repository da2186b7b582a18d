//! `event emit`, `event show`, `event list`.

use std::io::Read;

use serde_json::json;
use uuid::Uuid;

use super::failure::{Failure, Outcome};
use super::output::{self, or_dash, time};
use super::{compose, endpoint};
use crate::cli::{Emit, Event, ListEvents, Payload};
use crate::config::Config;
use crate::store::attempts::{self, Attempt};
use crate::store::deliveries::{self, Listed};
use crate::store::outbox::{self, NewEvent};
use crate::store::pauses::{self, Pause};
use crate::store::{Db, StoreError, events};

pub async fn run(config: &Config, command: Event) -> Outcome {
    match command {
        Event::Emit(args) => emit(config, args).await,
        Event::Show { id, output } => show(config, id, output.json).await,
        Event::List(args) => list(config, args).await,
    }
}

async fn emit(config: &Config, args: Emit) -> Outcome {
    let payload = read(args.payload, config.delivery.max_payload_bytes)?;
    let event = NewEvent {
        tenant: &args.tenant,
        event_type: &args.event_type,
        payload: &payload,
        idempotency_key: args.idempotency_key.as_deref(),
        max_attempts: args.max_attempts,
        traceparent: args.traceparent.as_deref(),
    };
    let db = compose::command_db(config)?;
    let id = outbox::emit(&db, event).await.map_err(explain)?;
    // It is committed: whatever comes after, the id is printed, or a script would send the event again.
    if args.output.json {
        output::json(&json!({"id": id}))?
    } else {
        output::line(&id.to_string())?
    }
    if let Err(error) = endpoint::warn_of_unknown(&db, &args.tenant).await {
        // A producer's role may not look.
        tracing::debug!(%error, "cannot check whether the tenant has an endpoint");
    }
    Ok(())
}

/// What the producer's input is refused for is a usage error; the server's text names the field and the fix.
fn explain(error: StoreError) -> Failure {
    match &error {
        StoreError::Refused { code, message } if code == "22P02" => {
            Failure::Usage(format!("payload: is not JSON ({message})"))
        }
        StoreError::Refused { message, .. } if error.blames_data() => {
            Failure::Usage(message.trim_start_matches("posthaste: ").to_owned())
        }
        _ => error.into(),
    }
}

fn read(payload: Payload, limit: usize) -> Result<String, Failure> {
    let unreadable = |error: std::io::Error| Failure::Usage(format!("payload: cannot be read ({error})"));
    let mut text = String::new();
    // One byte more than allowed is enough to refuse it; the database has the last word on the size.
    let most = limit as u64 + 1;
    match payload {
        Payload::Inline(text) => return Ok(text),
        Payload::File(path) => {
            let file = std::fs::File::open(&path).map_err(unreadable)?;
            file.take(most).read_to_string(&mut text).map_err(unreadable)?
        }
        Payload::Stdin => std::io::stdin().lock().take(most).read_to_string(&mut text).map_err(unreadable)?,
    };
    if text.len() > limit {
        return Err(Failure::Usage(format!(
            "payload: is over {limit} bytes; store the content elsewhere and send a reference to it (delivery.max_payload_bytes)"
        )));
    }
    Ok(text)
}

async fn show(config: &Config, id: Uuid, as_json: bool) -> Outcome {
    let db = compose::command_db(config)?;
    let Some(event) = events::get(&db, id).await? else {
        return Err(Failure::Failed(format!("event {id}: not found; it may be older than the retention")));
    };
    let deliveries = deliveries::of_event(&db, id, None, None).await?;
    let attempts = attempts::of_event(&db, id, None).await?;
    let pauses = pauses_of(&db, &deliveries).await?;
    if as_json {
        let pauses = pauses.iter().map(|pause| {
            let Pause { endpoint_id, reason, since, until } = pause;
            json!({"endpoint_id": endpoint_id, "reason": reason, "since": since, "until": until})
        });
        let pauses: Vec<_> = pauses.collect();
        return output::json(
            &json!({"event": event, "deliveries": deliveries, "attempts": attempts, "pauses": pauses}),
        );
    }
    let where_it_is = match event.published_at {
        None => "in the outbox, not relayed yet".to_owned(),
        Some(at) if event.matched == 0 => format!("relayed {}; no endpoint matched", time(at)),
        Some(at) => format!("relayed {}", time(at)),
    };
    output::pairs(&[
        ("id", event.id.to_string()),
        ("tenant", event.tenant),
        ("type", event.event_type),
        ("created", time(event.created_at)),
        ("state", where_it_is),
        ("payload", format!("{} bytes", event.payload_bytes)),
    ])?;
    print_deliveries(&deliveries, &pauses)?;
    print_attempts(&attempts)
}

/// What keeps the endpoints of those that are not finished from being sent to.
async fn pauses_of(db: &Db, deliveries: &[Listed]) -> Result<Vec<Pause>, StoreError> {
    let unfinished = deliveries.iter().filter(|d| !matches!(d.status.as_str(), "delivered" | "dead"));
    let endpoints: Vec<Uuid> = unfinished.map(|delivery| delivery.endpoint_id).collect();
    if endpoints.is_empty() { Ok(Vec::new()) } else { pauses::of(db, &endpoints).await }
}

/// Why a delivery waits in PostgreSQL: for its endpoint, or for its own time.
fn held_for(delivery: &Listed, pauses: &[Pause]) -> Option<String> {
    let reasons = pauses.iter().filter(|pause| pause.endpoint_id == delivery.endpoint_id);
    let reasons: Vec<&str> = reasons.map(|pause| pause.reason.as_str()).collect();
    let own = || delivery.last_error.as_ref().map_or("its time".to_owned(), |error| format!("its time, after {error}"));
    (delivery.status == "held").then(|| if reasons.is_empty() { own() } else { reasons.join(",") })
}

pub fn print_deliveries(deliveries: &[Listed], pauses: &[Pause]) -> Outcome {
    if deliveries.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let rows = deliveries.iter().map(|d| {
        vec![
            d.endpoint_id.to_string(),
            d.status.clone(),
            format!("{}/{}", d.attempts - d.base_attempts, d.max_attempts),
            d.next_attempt_at.map_or_else(|| "-".into(), time),
            or_dash(d.last_status_code),
            or_dash(held_for(d, pauses).or(d.dead_reason.clone()).or(d.last_error.clone())),
        ]
    });
    output::table(&["endpoint", "status", "attempts", "next attempt", "code", "reason"], rows)
}

pub fn print_attempts(attempts: &[Attempt]) -> Outcome {
    if attempts.is_empty() {
        return Ok(());
    }
    output::line("")?;
    let rows = attempts.iter().map(|a| {
        vec![
            a.endpoint_id.to_string(),
            a.attempt.to_string(),
            a.outcome.clone(),
            or_dash(a.status_code),
            or_dash(a.error.clone()),
            format!("{} ms", a.duration_ms),
            time(a.started_at),
            a.next_attempt_at.map_or_else(|| "-".into(), time),
        ]
    });
    output::table(&["endpoint", "attempt", "outcome", "code", "error", "took", "started", "next attempt"], rows)
}

async fn list(config: &Config, args: ListEvents) -> Outcome {
    let db = compose::command_db(config)?;
    let filter =
        events::Filter { tenant: args.tenant, event_type: args.event_type, since: args.since, limit: args.limit };
    let events = events::list(&db, &filter).await?;
    if args.output.json {
        return output::json(&events);
    }
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
    output::table(&["id", "tenant", "type", "created", "endpoints", "bytes"], rows)
}
