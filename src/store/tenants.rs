//! Rules for all endpoints of a tenant. A tenant without a row has the defaults.

use chrono::{DateTime, Utc};

use super::{Db, Result};

#[derive(Debug, Clone, serde::Serialize, sqlx_macros::FromRow)]
pub struct Settings {
    pub tenant: String,
    pub require_https: bool,
    /// Endpoints of it with `http://`.
    pub plain_http_endpoints: i64,
    /// Null: it was never set.
    pub updated_at: Option<DateTime<Utc>>,
}

pub async fn requires_https(db: &Db, tenant: &str) -> Result<bool> {
    let read = "select exists (select from posthaste.tenant_settings where tenant = $1 and require_https)";
    db.run(async |c| sqlx::query_scalar(read).bind(tenant).fetch_one(c).await).await
}

pub async fn set_require_https(db: &Db, tenant: &str, require: bool) -> Result<()> {
    db.run(async |c| {
        sqlx::query(
            "insert into posthaste.tenant_settings (tenant, require_https) values ($1, $2)
             on conflict (tenant) do update set require_https = excluded.require_https, updated_at = now()",
        )
        .bind(tenant)
        .bind(require)
        .execute(c)
        .await
    })
    .await?;
    Ok(())
}

/// What holds for the tenant, whether it has a row or not.
pub async fn get(db: &Db, tenant: &str) -> Result<Settings> {
    db.run(async |c| {
        sqlx::query_as(
            "select n.tenant, coalesce(s.require_https, false) as require_https, s.updated_at,
                    (select count(*) from posthaste.endpoints e where e.tenant = n.tenant and e.url like 'http://%')
                      as plain_http_endpoints
               from (select $1::text collate \"C\" as tenant) n left join posthaste.tenant_settings s on s.tenant = n.tenant",
        )
        .bind(tenant)
        .fetch_one(c)
        .await
    })
    .await
}

/// The tenants with a row.
pub async fn list(db: &Db, limit: i64) -> Result<Vec<Settings>> {
    db.run(async |c| {
        sqlx::query_as(
            "select s.tenant, s.require_https, s.updated_at,
                    (select count(*) from posthaste.endpoints e where e.tenant = s.tenant and e.url like 'http://%')
                      as plain_http_endpoints
               from posthaste.tenant_settings s order by s.tenant limit $1",
        )
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .await
}
