//! Endpoints: a customer's URL with its filters, limits and retry policy.

use std::time::Duration;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::secrets::Sealed;
use super::{Db, Result};

/// An endpoint as operators read it: no secret, no header value.
#[derive(Debug, Clone, serde::Serialize, sqlx_macros::FromRow)]
pub struct Endpoint {
    pub id: Uuid,
    pub tenant: String,
    pub url: String,
    pub description: Option<String>,
    pub event_types: Option<Vec<String>>,
    pub status: String,
    pub disabled_reason: Option<String>,
    pub max_in_flight: Option<i32>,
    pub rate_limit_per_second: Option<f64>,
    pub timeout_ms: Option<i32>,
    pub retry_policy: Option<String>,
    pub circuit_state: String,
    pub circuit_until: Option<DateTime<Utc>>,
    /// Since when the circuit has not been closed.
    pub circuit_opened_at: Option<DateTime<Utc>>,
    pub client_certificate_sha256: Option<String>,
    pub client_certificate_expires_at: Option<DateTime<Utc>>,
    /// Of the authorities that its certificate must come from, if not those of the system.
    pub ca_sha256: Option<Vec<String>>,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// New values of an endpoint. `None` leaves a column as it is; `Some(None)` clears it.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    pub url: Option<String>,
    pub description: Option<Option<String>>,
    pub event_types: Option<Option<Vec<String>>>,
    pub max_in_flight: Option<Option<i32>>,
    pub rate_limit_per_second: Option<Option<f64>>,
    pub timeout_ms: Option<Option<i32>>,
    pub retry_policy: Option<Option<String>>,
    pub headers: Option<Option<Vec<u8>>>,
    pub client_identity: Option<Option<ClientIdentity>>,
    pub ca: Option<Option<Authorities>>,
}

/// A client certificate with its key, sealed, and what may be shown of it.
#[derive(Debug, Clone)]
pub struct ClientIdentity {
    pub sealed: Vec<u8>,
    pub sha256: String,
    pub expires_at: DateTime<Utc>,
}

/// Certificate authorities, sealed, and what may be shown of them.
#[derive(Debug, Clone)]
pub struct Authorities {
    pub sealed: Vec<u8>,
    pub sha256: Vec<String>,
}

/// Each with the condition that its index needs: an optional one would be planned for a scan of the table.
macro_rules! read {
    ($which:literal) => {
        concat!(
            "select id, tenant, url, description, event_types, status, disabled_reason, max_in_flight,
               rate_limit_per_second, timeout_ms, retry_policy, circuit_state, circuit_until, circuit_opened_at,
               client_certificate_sha256, client_certificate_expires_at, ca_sha256, created_at, updated_at
               from posthaste.endpoints ",
            $which
        )
    };
}

const READ_ONE: &str = read!("where id = $1");

pub async fn list(db: &Db, tenant: Option<&str>, limit: i64) -> Result<Vec<Endpoint>> {
    let read = read!("where ($1::text is null or tenant = $1) order by tenant, id limit $2");
    db.run(async |c| sqlx::query_as(read).bind(tenant).bind(limit).fetch_all(c).await).await
}

pub async fn get(db: &Db, id: Uuid) -> Result<Option<Endpoint>> {
    db.run(async |c| sqlx::query_as(READ_ONE).bind(id).fetch_optional(c).await).await
}

/// Disables endpoints that answered 410, those that nobody has locked. Returns the ones that are still enabled.
pub async fn disable_gone(db: &Db, ids: &[Uuid]) -> Result<Vec<Uuid>> {
    db.run(async |c| {
        sqlx::query_scalar(
            "with free as (
               select id from posthaste.endpoints where status = 'enabled' and id = any ($1)
                  for no key update skip locked
             ), gone as (
               update posthaste.endpoints e set status = 'disabled', disabled_reason = 'the endpoint answered 410'
                 from free where e.id = free.id returning e.id
             )
             select e.id from posthaste.endpoints e
              where e.id = any ($1) and e.status = 'enabled' and not exists (select from gone where gone.id = e.id)",
        )
        .bind(ids)
        .fetch_all(c)
        .await
    })
    .await
}

/// Disables an endpoint whose URL is not allowed, unless somebody has its row locked. True: it is as it was.
pub async fn disable_url(db: &Db, id: Uuid, url: &str, reason: &str) -> Result<bool> {
    db.run(async |c| {
        sqlx::query_scalar(
            "with free as (
               select id from posthaste.endpoints where id = $1 and url = $2 and status = 'enabled'
                  for no key update skip locked
             ), disabled as (
               update posthaste.endpoints e set status = 'disabled', disabled_reason = $3
                 from free where e.id = free.id returning e.id
             )
             select exists (select from posthaste.endpoints e where e.id = $1 and e.url = $2 and e.status = 'enabled')
                and not exists (select from disabled)",
        )
        .bind(id)
        .bind(url)
        .bind(reason)
        .fetch_one(c)
        .await
    })
    .await
}

/// A new endpoint with its first keys, in one statement.
pub async fn add(db: &Db, id: Uuid, tenant: &str, changes: &Changes, keys: &[Sealed]) -> Result<Endpoint> {
    let identity = changes.client_identity.as_ref().and_then(Option::as_ref);
    let ca = changes.ca.as_ref().and_then(Option::as_ref);
    db.run(async |c| {
        sqlx::query(
            "with e as (
               insert into posthaste.endpoints (id, tenant, url, description, event_types, max_in_flight,
                                                rate_limit_per_second, timeout_ms, retry_policy, headers, client_identity,
                                                client_certificate_sha256, client_certificate_expires_at, ca, ca_sha256)
               values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $15, $16, $17, $18, $19) returning id)
             insert into posthaste.endpoint_secrets (endpoint_id, kind, key_id, key_ciphertext, public_key)
             select e.id, k.* from e, unnest($11::text[], $12::text[], $13::bytea[], $14::text[]) k",
        )
        .bind(id)
        .bind(tenant)
        .bind(&changes.url)
        .bind(changes.description.clone().flatten())
        .bind(changes.event_types.clone().flatten())
        .bind(changes.max_in_flight.flatten())
        .bind(changes.rate_limit_per_second.flatten())
        .bind(changes.timeout_ms.flatten())
        .bind(changes.retry_policy.clone().flatten())
        .bind(changes.headers.clone().flatten())
        .bind(keys.iter().map(|key| key.kind).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.key_id.as_str()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.ciphertext.as_slice()).collect::<Vec<_>>())
        .bind(keys.iter().map(|key| key.public_key.as_deref()).collect::<Vec<_>>())
        .bind(identity.map(|identity| &identity.sealed))
        .bind(identity.map(|identity| &identity.sha256))
        .bind(identity.map(|identity| identity.expires_at))
        .bind(ca.map(|ca| &ca.sealed))
        .bind(ca.map(|ca| &ca.sha256))
        .execute(&mut *c)
        .await?;
        sqlx::query_as(READ_ONE).bind(id).fetch_one(c).await
    })
    .await
}

/// Changes what is given. False: there is no such endpoint.
pub async fn set(db: &Db, id: Uuid, changes: &Changes) -> Result<bool> {
    let identity = changes.client_identity.as_ref().and_then(Option::as_ref);
    let ca = changes.ca.as_ref().and_then(Option::as_ref);
    let changed = db
        .run(async |c| {
            sqlx::query(
                "update posthaste.endpoints set
                   url = coalesce($2, url),
                   description = case when $3 then $4 else description end,
                   event_types = case when $5 then $6 else event_types end,
                   max_in_flight = case when $7 then $8 else max_in_flight end,
                   rate_limit_per_second = case when $9 then $10 else rate_limit_per_second end,
                   timeout_ms = case when $11 then $12 else timeout_ms end,
                   retry_policy = case when $13 then $14 else retry_policy end,
                   headers = case when $15 then $16 else headers end,
                   client_identity = case when $17 then $18 else client_identity end,
                   client_certificate_sha256 = case when $17 then $19 else client_certificate_sha256 end,
                   client_certificate_expires_at = case when $17 then $20 else client_certificate_expires_at end,
                   ca = case when $21 then $22 else ca end,
                   ca_sha256 = case when $21 then $23 else ca_sha256 end
                 where id = $1",
            )
            .bind(id)
            .bind(&changes.url)
            .bind(changes.description.is_some())
            .bind(changes.description.clone().flatten())
            .bind(changes.event_types.is_some())
            .bind(changes.event_types.clone().flatten())
            .bind(changes.max_in_flight.is_some())
            .bind(changes.max_in_flight.flatten())
            .bind(changes.rate_limit_per_second.is_some())
            .bind(changes.rate_limit_per_second.flatten())
            .bind(changes.timeout_ms.is_some())
            .bind(changes.timeout_ms.flatten())
            .bind(changes.retry_policy.is_some())
            .bind(changes.retry_policy.clone().flatten())
            .bind(changes.headers.is_some())
            .bind(changes.headers.clone().flatten())
            .bind(changes.client_identity.is_some())
            .bind(identity.map(|identity| &identity.sealed))
            .bind(identity.map(|identity| &identity.sha256))
            .bind(identity.map(|identity| identity.expires_at))
            .bind(changes.ca.is_some())
            .bind(ca.map(|ca| &ca.sealed))
            .bind(ca.map(|ca| &ca.sha256))
            .execute(c)
            .await
        })
        .await?;
    Ok(changed.rows_affected() > 0)
}

/// Disables an endpoint. False: there is no such endpoint.
pub async fn disable(db: &Db, id: Uuid, reason: &str) -> Result<bool> {
    let disable = "update posthaste.endpoints set status = 'disabled', disabled_reason = $2 where id = $1";
    let disabled = db.run(async |c| sqlx::query(disable).bind(id).bind(reason).execute(c).await).await?;
    Ok(disabled.rows_affected() > 0)
}

/// Enables an endpoint and lifts every pause of it. Held deliveries are not touched here: the release finds them by state.
/// With `probe`, one whose circuit is open, or that was disabled and has deliveries held, gets a few of them first, and the
/// rest when they succeed. With nothing to probe with, nothing is to be found out.
pub async fn enable(db: &Db, id: Uuid, probe: bool) -> Result<bool> {
    let enabled = db
        .run(async |c| {
            sqlx::query(
                "update posthaste.endpoints e
                    set status = 'enabled', disabled_reason = null,
                        resumed_at = now(), paused_until = least(paused_until, now()),
                        circuit_state = case when p.probe then 'half_open' else circuit_state end,
                        circuit_trips = case when p.probe then greatest(circuit_trips, 1) else circuit_trips end,
                        circuit_opened_at = case when p.probe then now() else circuit_opened_at end
                   from (select $2 and (o.circuit_state = 'open' or (o.status = 'disabled' and exists (
                                  select from posthaste.deliveries d where d.endpoint_id = o.id and d.status = 'held'))) as probe
                           from posthaste.endpoints o where o.id = $1) p
                  where e.id = $1",
            )
            .bind(id)
            .bind(probe)
            .execute(c)
            .await
        })
        .await?;
    Ok(enabled.rows_affected() > 0)
}

pub async fn remove(db: &Db, id: Uuid) -> Result<bool> {
    let removed = db
        .run(async |c| sqlx::query("delete from posthaste.endpoints where id = $1").bind(id).execute(c).await)
        .await?;
    Ok(removed.rows_affected() > 0)
}

/// The longest total time-out that any endpoint sets for itself.
pub async fn longest_timeout(db: &Db) -> Result<Option<Duration>> {
    let ms: Option<i32> = db
        .run(async |c| sqlx::query_scalar("select max(timeout_ms) from posthaste.endpoints").fetch_one(c).await)
        .await?;
    Ok(ms.map(|ms| Duration::from_millis(ms.max(0) as u64)))
}
