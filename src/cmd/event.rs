//! `event emit`, `event show`, `event list`.

pub mod life;
mod list;
pub mod show;
mod waits;

use std::io::Read;

use serde_json::json;
use uuid::Uuid;

use super::failure::{Failure, Outcome};
use super::{compose, endpoint, output};
use crate::cli::{Emit, Event, Payload};
use crate::config::Config;
use crate::store::outbox::{self, NewEvent};
use crate::store::{Db, StoreError, events};

pub async fn run(config: &Config, command: Event) -> Outcome {
    match command {
        Event::Emit(args) => emit(config, args).await,
        Event::Show(args) => show::run(config, args).await,
        Event::List(args) => list::run(config, args).await,
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
    if args.idempotency_key.is_some() {
        warn_of_another_payload(&db, id, &payload).await;
    }
    if let Err(error) = endpoint::warn_of_unknown(&db, &args.tenant).await {
        // A producer's role may not look.
        tracing::debug!(%error, "cannot check whether the tenant has an endpoint");
    }
    Ok(())
}

/// A key that was used before names the first event, whatever is emitted with it later.
async fn warn_of_another_payload(db: &Db, id: Uuid, payload: &str) {
    match events::payload(db, id).await {
        Ok(Some(first)) if first != payload => {
            tracing::warn!(%id, "the idempotency key was used before, for this event with another payload; nothing new was emitted");
        }
        Ok(_) => {}
        // A producer's role may not look.
        Err(error) => tracing::debug!(%error, "cannot compare the payload with that of the key's first event"),
    }
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
