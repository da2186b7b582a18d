//! `event show` and `dead show`: the whole life of deliveries.

use std::collections::HashMap;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::super::compose;
use super::super::failure::{Failure, Outcome};
use super::super::output::{self, plain, time};
use super::life::{Life, Origin};
use super::waits;
use crate::cli::ShowEvent;
use crate::config::Config;
use crate::domain::backoff::Policies;
use crate::domain::budget::Stored;
use crate::domain::delivery::Status;
use crate::store::attempts::{self, Attempt};
use crate::store::budgets;
use crate::store::deliveries::{self, Listed};
use crate::store::events::Event;
use crate::store::pauses::{self, Pause};
use crate::store::{Db, StoreError, events, relay_batches, requeue};

pub async fn run(config: &Config, args: ShowEvent) -> Outcome {
    let db = compose::command_db(config)?;
    let Some(event) = events::get(&db, args.id).await? else {
        return Err(Failure::Failed(format!("event {}: not found; it may be older than the retention", args.id)));
    };
    let found = Found::read(&db, args.id, args.endpoint, None).await?;
    if args.endpoint.is_some() && found.deliveries.is_empty() {
        return Err(Failure::Failed(format!("event {}: has no delivery to this endpoint", args.id)));
    }
    let payload = payload(&db, args.id, args.payload).await?;
    if args.output.json {
        let mut value = json!({
            "event": event, "deliveries": found.json(&config.retry), "attempts": found.attempts,
            "pauses": found.pauses.iter().map(pause).collect::<Vec<_>>(),
        });
        add_payload(&mut value, payload);
        return output::json(&value);
    }
    let matched = event.matched.max(0) as usize;
    let origin = Origin { emitted: event.created_at, claimed: event.published_at, now: found.now };
    head(&event, payload.as_deref())?;
    found.print(&config.retry, &origin)?;
    if args.endpoint.is_none() && found.deliveries.len() < matched {
        let shown = found.deliveries.len();
        output::line(&format!("\n{shown} of {matched} deliveries; --endpoint ID shows one of the others"))?;
    }
    Ok(())
}

fn head(event: &Event, payload: Option<&str>) -> Outcome {
    let where_it_is = match event.published_at {
        None => "in the outbox, not relayed yet".to_owned(),
        Some(at) if event.matched == 0 => format!("relayed {}; no endpoint matched", time(at)),
        Some(at) => format!("relayed {}", time(at)),
    };
    output::pairs(&[
        ("id", event.id.to_string()),
        ("tenant", event.tenant.clone()),
        ("type", event.event_type.clone()),
        ("created", time(event.created_at)),
        ("state", where_it_is),
        ("payload", payload_of(event)),
    ])?;
    payload.map_or(Ok(()), print_payload)
}

fn payload_of(event: &Event) -> String {
    match event.erased_at {
        Some(at) => format!("erased {}", time(at)),
        None => format!("{} bytes", event.payload_bytes),
    }
}

/// Line by line; what a terminal would obey is escaped.
pub fn print_payload(payload: &str) -> Outcome {
    output::line(&payload.split('\n').map(plain).collect::<Vec<_>>().join("\n"))
}

/// The payload, where it is asked for.
pub async fn payload(db: &Db, event: Uuid, asked: bool) -> Result<Option<String>, Failure> {
    if !asked {
        return Ok(None);
    }
    let payload = events::payload(db, event).await?;
    payload.map(Some).ok_or_else(|| Failure::Failed(format!("event {event}: has no payload any more")))
}

/// As one text, byte for byte, and not as part of the value: a payload may have what another reader of JSON would change.
pub fn add_payload(value: &mut Value, payload: Option<String>) {
    if let (Some(object), Some(payload)) = (value.as_object_mut(), payload) {
        object.insert("payload".into(), payload.into());
    }
}

fn pause(pause: &Pause) -> Value {
    let Pause { endpoint_id, reason, since, until } = pause;
    json!({"endpoint_id": endpoint_id, "reason": reason, "since": since, "until": until})
}

/// Deliveries of one event, and what is known about them.
pub struct Found {
    pub deliveries: Vec<Listed>,
    pub attempts: Vec<Attempt>,
    pub pauses: Vec<Pause>,
    pub now: chrono::DateTime<chrono::Utc>,
    unconfirmed: bool,
    budgets: HashMap<String, u32>,
}

impl Found {
    pub async fn read(
        db: &Db,
        event: Uuid,
        endpoint: Option<Uuid>,
        status: Option<Status>,
    ) -> Result<Found, StoreError> {
        let deliveries = deliveries::of_event(db, event, endpoint, status).await?;
        let unfinished = deliveries.iter().filter(|d| !matches!(d.status.as_str(), "delivered" | "dead"));
        let waiting: Vec<Uuid> = unfinished.map(|delivery| delivery.endpoint_id).collect();
        let pauses = if waiting.is_empty() { Vec::new() } else { pauses::of(db, &waiting).await? };
        let stored = budgets::all(db).await?.into_iter();
        Ok(Found {
            attempts: attempts::of_event(db, event, endpoint).await?,
            unconfirmed: !waiting.is_empty() && relay_batches::lists(db, event).await?,
            budgets: stored.map(|stored| (stored.policy, stored.budget.unsigned_abs())).collect(),
            now: requeue::now(db).await?,
            deliveries,
            pauses,
        })
    }

    fn lives<'a>(&'a self, policies: &'a Policies) -> impl Iterator<Item = Life<'a>> {
        self.deliveries.iter().map(move |delivery| {
            let pauses: Vec<&Pause> = self.pauses.iter().filter(|p| p.endpoint_id == delivery.endpoint_id).collect();
            let name = delivery.retry_policy.as_deref();
            let stored = |name: &str| self.budgets.get(name).copied();
            let stored = Stored { named: name.and_then(stored), default: stored("default") };
            Life {
                delivery,
                attempts: self.attempts.iter().filter(|a| a.endpoint_id == delivery.endpoint_id).collect(),
                waits: waits::waits(delivery, &pauses, self.unconfirmed, self.now),
                policy: &policies.get(name).name,
                budget: stored.in_force(policies, name),
            }
        })
    }

    /// The rows, and what follows from them.
    pub fn json(&self, policies: &Policies) -> Vec<Value> {
        let of = |life: Life| {
            let waits =
                life.waits.as_ref().map_or_else(|| json!({"waits_for": null, "waits_until": null}), |w| json!(w));
            let more = json!({"policy": life.policy, "budget": life.budget, "attempts_left": life.attempts_left()});
            let mut all = Map::new();
            for part in [json!(life.delivery), more, waits] {
                all.extend(part.as_object().cloned().unwrap_or_default());
            }
            Value::Object(all)
        };
        self.lives(policies).map(of).collect()
    }

    pub fn print(&self, policies: &Policies, origin: &Origin) -> Outcome {
        for life in self.lives(policies) {
            output::line("")?;
            output::line(&life.lines(origin).join("\n"))?;
        }
        Ok(())
    }
}
