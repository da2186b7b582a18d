//! `endpoint ...`: what operators do with endpoints.

use std::time::Duration;

use chrono::Utc;
use serde_json::json;
use uuid::Uuid;

use super::failure::{Failure, Outcome};
use super::output::{self, or_dash};
use super::{compose, confirm};
use crate::broker::publisher::Publisher;
use crate::cli::{AddEndpoint, Endpoint, EndpointId, Header, SetEndpoint, Setting};
use crate::config::Config;
use crate::domain::dead_reason::DeadReason;
use crate::domain::ids;
use crate::domain::message::{Body, Message};
use crate::domain::sealing::Key;
use crate::relay::dead_letters;
use crate::store::Db;
use crate::store::endpoints::{self, Changes};
use crate::store::requeue::{self, Filter};
use crate::worker::{self, test_request};

mod keys;
mod known;
mod own_tls;
mod sealing;
mod show;
mod switch;
mod url;

pub(super) use keys::jwk_set;
use known::unknown;
pub(super) use known::{existing, warn_of_unknown};
use own_tls::OwnTls;
pub(super) use sealing::key as sealing_key;
use sealing::sealed_headers;

pub async fn run(config: &Config, command: Endpoint) -> Outcome {
    match command {
        Endpoint::Add(args) => add(config, args).await,
        Endpoint::List(args) => show::list(config, args).await,
        Endpoint::Show(args) => show::one(config, &args).await,
        Endpoint::Set(args) => set(config, args).await,
        Endpoint::Enable(args) => switch::enable(config, &args).await,
        Endpoint::Resume(args) => switch::resume(config, &args).await,
        Endpoint::Disable { endpoint, reason } => {
            let reason = reason.unwrap_or_else(|| "disabled by an operator".into());
            switch::disable(config, &endpoint, &reason).await
        }
        Endpoint::Remove { endpoint, yes } => remove(config, &endpoint, yes).await,
        Endpoint::RotateSecret(args) => keys::rotate(config, args).await,
        Endpoint::Jwks(args) => keys::jwks(config, args.id).await,
        Endpoint::Test(args) => test(config, &args).await,
    }
}

async fn add(config: &Config, args: AddEndpoint) -> Outcome {
    let own_tls = OwnTls::read(args.client_certificate.as_ref(), args.client_key.as_ref(), args.ca.as_ref())?;
    let url = url::checked(config, &args.url).await?;
    known_policy(config, args.retry_policy.as_deref())?;
    let given = keys::Given::read(&args.scheme, args.secret, args.private_key_file.as_deref())?;
    let db = compose::command_db(config)?;
    url::allowed_to(config, &db, &args.tenant, &url).await?;
    let key = sealing::key(config, &db, args.new_key).await?;
    let id = ids::new_v7(Utc::now().timestamp_millis() as u64, rand::random());
    let (keys, sealed) = keys::first(&key, id, &args.scheme, given)?;
    let changes = Changes {
        url: Some(url.into()),
        description: Some(args.description),
        event_types: Some((!args.event_types.is_empty()).then_some(args.event_types)),
        max_in_flight: Some(args.max_in_flight),
        rate_limit_per_second: Some(args.rate_limit.map(f64::from)),
        timeout_ms: Some(args.timeout.map(millis)),
        retry_policy: Some(args.retry_policy),
        headers: Some(sealed_headers(&key, id, &args.headers)?),
        client_identity: Some(own_tls.sealed_identity(&key, id)?),
        ca: Some(own_tls.sealed_authorities(&key, id)?),
    };
    let endpoint = endpoints::add(&db, id, &args.tenant, &changes, &sealed).await?;
    if !args.output.json {
        show::print(&endpoint)?;
        output::line("")?;
        return output::pairs(&keys.iter().map(keys::told).collect::<Vec<_>>());
    }
    let mut value = show::to_json(&endpoint)?;
    keys.iter().for_each(|key| keys::tell(&mut value, key));
    output::json(&value)
}

async fn set(config: &Config, args: SetEndpoint) -> Outcome {
    let own_tls = OwnTls::read(args.client_certificate.as_ref(), args.client_key.as_ref(), args.ca.as_ref())?;
    let db = compose::command_db(config)?;
    let url = match &args.url {
        Some(url) => Some(url::checked(config, url).await?),
        None => None,
    };
    if let Some(url) = &url {
        url::allowed_to(config, &db, &existing(&db, args.id).await?.tenant, url).await?;
    }
    let policy = args.retry_policy.map(value_of);
    known_policy(config, policy.as_ref().and_then(|policy| policy.as_deref()))?;
    let mut changes = Changes {
        url: url.map(String::from),
        description: args.description.map(|text| (!text.is_empty()).then_some(text)),
        event_types: args.event_types.map(|types| (types != ["*"]).then_some(types)),
        max_in_flight: args.max_in_flight.map(value_of),
        rate_limit_per_second: args.rate_limit.map(|rate| value_of(rate).map(f64::from)),
        timeout_ms: args.timeout.map(|timeout| value_of(timeout).map(millis)),
        retry_policy: policy,
        headers: args.no_headers.then_some(None),
        client_identity: args.no_client_certificate.then_some(None),
        ca: args.no_ca.then_some(None),
    };
    if !args.headers.is_empty() || !own_tls.is_empty() {
        let key = sealing::key(config, &db, args.new_key).await?;
        seal(&mut changes, &key, args.id, &args.headers, &own_tls)?;
    }
    if !endpoints::set(&db, args.id, &changes).await? {
        return Err(unknown(args.id));
    }
    if let Some(scheme) = args.end_scheme {
        keys::end(&db, args.id, scheme).await?;
    }
    show::one(config, &EndpointId { id: args.id, output: args.output }).await
}

/// What is given of the parts that are kept sealed.
fn seal(changes: &mut Changes, key: &Key, id: Uuid, headers: &[Header], own_tls: &OwnTls) -> Outcome {
    if !headers.is_empty() {
        changes.headers = Some(sealed_headers(key, id, headers)?);
    }
    if let Some(identity) = own_tls.sealed_identity(key, id)? {
        changes.client_identity = Some(Some(identity));
    }
    if let Some(authorities) = own_tls.sealed_authorities(key, id)? {
        changes.ca = Some(Some(authorities));
    }
    Ok(())
}

/// What is unfinished ends as dead, so nothing vanishes with the endpoint.
async fn remove(config: &Config, args: &EndpointId, yes: bool) -> Outcome {
    const BATCH: i64 = 1000;
    let db = Db::new(&compose::service_options(config, "posthaste endpoint remove")?)?;
    // Everything that can be refused is, before anything is removed.
    let broker = compose::broker_settings(config)?;
    let endpoint = existing(&db, args.id).await?;
    confirm::ask(&format!("Remove {} of tenant {}?", endpoint.url, endpoint.tenant), yes)?;
    if !endpoints::remove(&db, args.id).await? {
        return Err(unknown(args.id));
    }
    let names = compose::topology(config).names;
    let publisher = Publisher::new(broker, names, "posthaste endpoint remove");
    loop {
        let batch = requeue::mark_dead_of_removed(&db, args.id, BATCH).await?;
        if batch.is_empty() {
            break;
        }
        dead_letters::write(&publisher, batch).await;
    }
    publisher.close().await;
    // A relay may have been faster with some of them, so they are counted rather than added up.
    let reason = Some(DeadReason::EndpointRemoved);
    let ended = requeue::count(&db, args.id, &Filter { reason, ..Filter::default() }).await?;
    if args.output.json {
        return output::json(&json!({"id": args.id, "removed": true, "deliveries_ended": ended}));
    }
    output::line(&format!("removed; {ended} unfinished deliveries are dead now (endpoint_removed)"))
}

/// One signed request with a test event, outside any delivery: nothing is recorded.
async fn test(config: &Config, args: &EndpointId) -> Outcome {
    let db = compose::command_db(config)?;
    let endpoint = existing(&db, args.id).await?;
    url::may_be_sent_to(config, &db, &endpoint).await?;
    let loaded = worker::load(&db, &compose::keys(config)?, &compose::url_rules(config), args.id).await?;
    let Some(ready) = loaded else { return Err(unknown(args.id)) };
    let payload = bytes::Bytes::from_static(br#"{"test":true}"#);
    let message = Message {
        event_id: ids::new_v7(Utc::now().timestamp_millis() as u64, rand::random()),
        endpoint_id: args.id,
        tenant: endpoint.tenant.into(),
        event_type: "posthaste.test".into(),
        body: Body::Here(payload.clone()),
        attempt: 1,
        max_attempts: 1,
        base_attempts: 0,
        traceparent: None,
        claimed_ms: None,
    };
    let client = compose::http_client(config)?;
    let exchange = test_request(&client, &ready, &message, &payload, config.delivery.timeout).await;
    let (delivered, status, error) = match exchange.outcome {
        Ok(outcome) => (outcome.is_delivered(), outcome.status(), outcome.error()),
        Err(fault) => (false, None, Some(fault.text().to_owned())),
    };
    let duration_ms = exchange.duration.as_millis() as u64;
    if args.output.json {
        output::json(&json!({
            "delivered": delivered, "status_code": status, "error": error, "duration_ms": duration_ms,
            "response_body": exchange.response_body,
        }))?;
    } else {
        output::pairs(&[
            ("delivered", delivered.to_string()),
            ("status", or_dash(status)),
            ("error", or_dash(error)),
            ("took", format!("{duration_ms} ms")),
        ])?;
    }
    if delivered { Ok(()) } else { Err(Failure::Failed("the endpoint did not answer with 2xx".into())) }
}

fn known_policy(config: &Config, name: Option<&str>) -> Outcome {
    match name {
        Some(name) if !config.retry.contains(name) => Err(Failure::Usage(format!(
            "retry-policy: '{name}' is not configured; add [retry.policies.{name}], or leave it out"
        ))),
        _ => Ok(()),
    }
}

fn value_of<T>(setting: Setting<T>) -> Option<T> {
    match setting {
        Setting::Default => None,
        Setting::To(value) => Some(value),
    }
}

fn millis(duration: Duration) -> i32 {
    duration.as_millis().clamp(1, 600_000) as i32
}

/// Whose endpoint it is and where, for whoever is about to send to it.
pub(super) async fn whose(db: &Db, id: Option<Uuid>) -> Result<Option<String>, Failure> {
    let Some(id) = id else { return Ok(None) };
    let endpoint = endpoints::get(db, id).await?;
    Ok(endpoint.map(|endpoint| format!("{} of tenant {}", endpoint.url, endpoint.tenant)))
}

/// Nothing was found for this endpoint and tenant: there may be neither, or a slip of the hand.
pub(super) async fn must_be_of(db: &Db, id: Option<Uuid>, tenant: Option<&str>) -> Outcome {
    if let Some(tenant) = tenant {
        warn_of_unknown(db, tenant).await?;
    }
    let Some(id) = id else { return Ok(()) };
    let endpoint = existing(db, id).await?;
    match tenant {
        Some(tenant) if endpoint.tenant != tenant => Err(Failure::Failed(format!(
            "endpoint {id}: belongs to another tenant than '{tenant}'; leave --tenant out, or take one of `posthaste endpoint list`"
        ))),
        _ => Ok(()),
    }
}
