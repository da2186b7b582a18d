//! What a worker needs to send to endpoints, and which of them are not as it knows them any more.

use uuid::Uuid;

use super::{Db, Result};

/// An endpoint as a worker needs it, still sealed.
#[derive(Debug, Clone, sqlx_macros::FromRow)]
pub struct Sendable {
    pub id: Uuid,
    pub url: String,
    pub status: String,
    pub max_in_flight: Option<i32>,
    pub rate_limit_per_second: Option<f64>,
    pub timeout_ms: Option<i32>,
    pub retry_policy: Option<String>,
    /// Retry budgets that are stored for its policy, and for the default one.
    pub policy_budget: Option<i32>,
    pub default_budget: Option<i32>,
    pub circuit_state: String,
    pub circuit_trips: i32,
    /// Time until its pause is over; null or negative: there is none.
    pub paused_ms: Option<i64>,
    /// When its pauses were last lifted, in Unix microseconds; 0 for never.
    pub resumed_us: i64,
    /// The worker that has spoken of it last had a good answer from it in its last minute.
    pub answers: bool,
    pub headers: Option<Vec<u8>>,
    pub client_identity: Option<Vec<u8>>,
    pub ca: Option<Vec<u8>>,
    /// Its tenant wants no plain http.
    pub require_https: bool,
    /// `whsec` or `whsk`, of each secret.
    pub secret_kinds: Vec<String>,
    pub secret_key_ids: Vec<String>,
    pub secrets: Vec<Vec<u8>>,
    /// Unix milliseconds; 0 for a secret without an end.
    pub secret_ends_ms: Vec<i64>,
    /// Another one after every change, whoever made it and whenever it was committed.
    pub version: String,
}

/// The transactions that wrote the rows. Unlike a time of change or the highest transaction seen, it cannot miss a commit
/// that is later than that of a younger transaction.
macro_rules! version {
    () => {
        "e.xmin::text || coalesce((select string_agg(' ' || v.id || ':' || v.xmin::text, '' order by v.id)
                             from posthaste.endpoint_secrets v where v.endpoint_id = e.id), '')
           || coalesce((select ' ' || t.xmin::text from posthaste.tenant_settings t where t.tenant = e.tenant), '')
           || coalesce((select string_agg(' ' || b.policy || ':' || b.xmin::text, '' order by b.policy)
                          from posthaste.retry_budgets b where b.policy in (e.retry_policy, 'default')), '')"
    };
}

const READ: &str = concat!(
    "select e.id, e.url, e.status, e.max_in_flight, e.rate_limit_per_second, e.timeout_ms, e.retry_policy,
       e.circuit_state, e.circuit_trips, e.headers, e.client_identity, e.ca, s.*,
       (select b.budget from posthaste.retry_budgets b where b.policy = e.retry_policy) as policy_budget,
       (select b.budget from posthaste.retry_budgets b where b.policy = 'default') as default_budget,
       coalesce((select t.require_https from posthaste.tenant_settings t where t.tenant = e.tenant), false) as require_https,
       ceil(extract(epoch from e.paused_until - now()) * 1000)::bigint as paused_ms,
       coalesce((extract(epoch from e.resumed_at) * 1000000)::bigint, 0) as resumed_us,
       coalesce((select a.attempts > a.failures and a.reported_at > now() - interval '10 minutes'
                   from posthaste.endpoint_activity a where a.endpoint_id = e.id
                  order by a.reported_at desc limit 1), false) as answers, ",
    version!(),
    " as version
  from posthaste.endpoints e
 cross join lateral (
   select coalesce(array_agg(kind order by id desc), '{}') as secret_kinds,
          coalesce(array_agg(key_id order by id desc), '{}') as secret_key_ids,
          coalesce(array_agg(key_ciphertext order by id desc), '{}') as secrets,
          coalesce(array_agg(coalesce((extract(epoch from expires_at) * 1000)::bigint, 0) order by id desc), '{}')
            as secret_ends_ms
     from posthaste.endpoint_secrets
    where endpoint_id = e.id and kind in ('whsec', 'whsk') and (expires_at is null or expires_at > now())) s
 where e.id = any ($1)"
);

/// These endpoints, newest secret first. One that was removed is not in the answer.
pub async fn read(db: &Db, ids: &[Uuid]) -> Result<Vec<Sendable>> {
    db.run(async |c| sqlx::query_as(READ).bind(ids).fetch_all(c).await).await
}

const CHANGED: &str = concat!(
    "select k.id from unnest($1::uuid[], $2::text[]) as k(id, version)
 where k.version is distinct from (select ",
    version!(),
    " from posthaste.endpoints e where e.id = k.id)"
);

/// Those that have another version now, or were removed.
pub async fn changed(db: &Db, ids: &[Uuid], versions: &[&str]) -> Result<Vec<Uuid>> {
    db.run(async |c| sqlx::query_scalar(CHANGED).bind(ids).bind(versions).fetch_all(c).await).await
}
