//! `endpoint list` and `endpoint show`: the configuration, and what is going on.

use std::collections::HashMap;

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::compose;
use super::super::failure::{Failure, Outcome};
use super::super::output::{self, or_dash};
use super::known::{existing, warn_of_unknown};
use crate::cli::{EndpointId, ListEndpoints};
use crate::config::Config;
use crate::domain::signing_key::Kind;
use crate::store::Db;
use crate::store::activity::{self, Activity};
use crate::store::endpoints::{self, Endpoint};
use crate::store::pauses::{self, Pause};
use crate::store::secrets::{self, Live};

pub async fn list(config: &Config, args: ListEndpoints) -> Outcome {
    let db = compose::command_db(config)?;
    let found = endpoints::list(&db, args.tenant.as_deref(), args.limit).await?;
    if let (true, Some(tenant)) = (found.is_empty(), &args.tenant) {
        warn_of_unknown(&db, tenant).await?;
    }
    let mut seen = read(&db, &found).await?;
    let both = found.into_iter().map(|e| {
        let seen = seen.remove(&e.id).unwrap_or_default();
        (e, seen)
    });
    if args.output.json {
        let all = both.map(|(e, seen)| with_activity(&e, &seen)).collect::<Result<Vec<Value>, Failure>>()?;
        return output::json(&all);
    }
    let rows = both.map(|(e, Seen { activity, pauses })| {
        vec![
            e.id.to_string(),
            e.tenant,
            e.status,
            e.circuit_state,
            reasons(&pauses),
            activity.held.to_string(),
            activity.in_flight.to_string(),
            share(&activity),
            e.url,
            e.event_types.filter(|types| !types.is_empty()).map_or_else(|| "*".into(), |types| types.join(",")),
            e.retry_policy.unwrap_or_else(|| "default".into()),
        ]
    });
    let head =
        ["id", "tenant", "status", "circuit", "paused", "held", "in flight", "failing", "url", "types", "policy"];
    output::table(&head, rows)
}

pub async fn one(config: &Config, args: &EndpointId) -> Outcome {
    let db = compose::command_db(config)?;
    let endpoint = existing(&db, args.id).await?;
    let live = secrets::live(&db, args.id).await?;
    let seen = read(&db, std::slice::from_ref(&endpoint)).await?.remove(&args.id).unwrap_or_default();
    if args.output.json {
        let mut value = with_activity(&endpoint, &seen)?;
        value["live_secrets"] = json!(live.len());
        value["schemes"] = json!(schemes(&live));
        value["public_keys"] = json!(public_keys(&live));
        return output::json(&value);
    }
    print(&endpoint)?;
    let Seen { activity, pauses } = seen;
    output::pairs(&[
        ("live secrets", live.len().to_string()),
        ("signed by", schemes(&live).join(", ")),
        ("public keys", if public_keys(&live).is_empty() { "-".into() } else { public_keys(&live).join(", ") }),
        ("paused", if pauses.is_empty() { "-".into() } else { pauses.iter().map(told).collect::<Vec<_>>().join("; ") }),
        ("held", activity.held.to_string()),
        ("in flight", activity.in_flight.to_string()),
        ("failing", share(&activity)),
        ("last error", last_error(&activity)),
    ])
}

/// Those that keys sign by now.
fn schemes(live: &[Live]) -> Vec<&'static str> {
    let signs = |kind: Kind| live.iter().any(|key| key.kind == kind.as_str());
    [(Kind::Whsec, "v1"), (Kind::Whsk, "v1a")]
        .into_iter()
        .filter(|(kind, _)| signs(*kind))
        .map(|(_, name)| name)
        .collect()
}

fn public_keys(live: &[Live]) -> Vec<&str> {
    live.iter().filter_map(|key| key.public_key.as_deref()).collect()
}

fn last_error(activity: &Activity) -> String {
    let at = activity.last_error_at.map(|at| format!(", {}", at.format("%F %T UTC")));
    activity.last_error.as_ref().map_or_else(|| "-".into(), |error| format!("{error}{}", at.unwrap_or_default()))
}

/// What is going on at an endpoint.
#[derive(Default)]
struct Seen {
    activity: Activity,
    pauses: Vec<Pause>,
}

async fn read(db: &Db, endpoints: &[Endpoint]) -> Result<HashMap<Uuid, Seen>, Failure> {
    let ids: Vec<Uuid> = endpoints.iter().map(|endpoint| endpoint.id).collect();
    let mut seen: HashMap<Uuid, Seen> = HashMap::new();
    for activity in activity::read(db, &ids).await? {
        seen.insert(activity.endpoint_id, Seen { activity, pauses: Vec::new() });
    }
    for pause in pauses::of(db, &ids).await? {
        seen.entry(pause.endpoint_id).or_default().pauses.push(pause);
    }
    Ok(seen)
}

/// The reasons alone.
pub fn reasons(pauses: &[Pause]) -> String {
    let reasons: Vec<&str> = pauses.iter().map(|pause| pause.reason.as_str()).collect();
    if reasons.is_empty() { "-".into() } else { reasons.join(",") }
}

/// A pause with its times.
fn told(pause: &Pause) -> String {
    let since = pause.since.map(|at| format!(" since {}", at.format("%F %T UTC")));
    let until = pause.until.map(|at| format!(" until {}", at.format("%F %T UTC")));
    format!("{}{}{}", pause.reason, since.unwrap_or_default(), until.unwrap_or_default())
}

fn share(activity: &Activity) -> String {
    activity.recent_failure_share.map_or_else(|| "-".into(), |share| format!("{:.0} %", share * 100.0))
}

pub fn to_json(endpoint: &Endpoint) -> Result<Value, Failure> {
    serde_json::to_value(endpoint).map_err(|error| Failure::Failed(error.to_string()))
}

fn with_activity(endpoint: &Endpoint, Seen { activity, pauses }: &Seen) -> Result<Value, Failure> {
    let mut value = to_json(endpoint)?;
    value["held"] = json!(activity.held);
    value["in_flight"] = json!(activity.in_flight);
    value["recent_failure_share"] = json!(activity.recent_failure_share);
    value["last_error"] = json!(activity.last_error);
    value["last_error_at"] = json!(activity.last_error_at);
    value["pauses"] = json!(pauses);
    Ok(value)
}

pub fn print(endpoint: &Endpoint) -> Outcome {
    let types = endpoint.event_types.clone().filter(|types| !types.is_empty());
    output::pairs(&[
        ("id", endpoint.id.to_string()),
        ("tenant", endpoint.tenant.clone()),
        ("url", endpoint.url.clone()),
        ("description", or_dash(endpoint.description.clone())),
        ("event types", types.map_or_else(|| "*".into(), |types| types.join(", "))),
        ("status", endpoint.status.clone()),
        ("disabled because", or_dash(endpoint.disabled_reason.clone())),
        ("circuit", circuit(endpoint)),
        ("max in flight", or_dash(endpoint.max_in_flight)),
        ("rate limit", endpoint.rate_limit_per_second.map_or_else(|| "-".into(), |rate| format!("{rate}/s"))),
        ("timeout", endpoint.timeout_ms.map_or_else(|| "-".into(), |ms| format!("{ms} ms"))),
        ("retry policy", endpoint.retry_policy.clone().unwrap_or_else(|| "default".into())),
        ("client certificate", client_certificate(endpoint)),
        ("authorities", endpoint.ca_sha256.as_ref().map_or_else(|| "the system's".into(), |ca| ca.join(", "))),
    ])
}

/// The fingerprint of the certificate, which is no secret.
fn client_certificate(endpoint: &Endpoint) -> String {
    let until = endpoint.client_certificate_expires_at.map(|at| format!(", until {}", at.format("%F %T UTC")));
    let shown = |sha256: &String| format!("{sha256}{}", until.unwrap_or_default());
    endpoint.client_certificate_sha256.as_ref().map_or_else(|| "-".into(), shown)
}

fn circuit(endpoint: &Endpoint) -> String {
    let since = endpoint.circuit_opened_at.map(|at| format!(", not closed since {}", at.format("%F %T UTC")));
    let until = endpoint.circuit_until.filter(|_| endpoint.circuit_state == "open");
    let until = until.map(|at| format!(", probes at {}", at.format("%F %T UTC")));
    format!("{}{}{}", endpoint.circuit_state, since.unwrap_or_default(), until.unwrap_or_default())
}
