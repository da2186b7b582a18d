//! `tenant ...`: rules for all endpoints of a tenant.

use super::compose;
use super::failure::{Failure, Outcome};
use super::output::{self, or_dash};
use crate::cli::{ListTenants, SetTenant, Tenant, TenantName};
use crate::config::Config;
use crate::store::tenants::{self, Settings};

pub async fn run(config: &Config, command: Tenant) -> Outcome {
    match command {
        Tenant::Set(args) => set(config, args).await,
        Tenant::Show(args) => show(config, args).await,
        Tenant::List(args) => list(config, args).await,
    }
}

async fn set(config: &Config, args: SetTenant) -> Outcome {
    let db = compose::command_db(config)?;
    tenants::set_require_https(&db, &args.tenant, args.require_https).await?;
    let settings = tenants::get(&db, &args.tenant).await?;
    if settings.require_https && settings.plain_http_endpoints > 0 {
        tracing::warn!(
            endpoints = settings.plain_http_endpoints,
            "the tenant has endpoints with http://; each is disabled when it is next sent to, and nothing is lost"
        );
    }
    print(&settings, args.output.json)
}

async fn show(config: &Config, args: TenantName) -> Outcome {
    let db = compose::command_db(config)?;
    print(&tenants::get(&db, &args.tenant).await?, args.output.json)
}

async fn list(config: &Config, args: ListTenants) -> Outcome {
    let db = compose::command_db(config)?;
    let found = tenants::list(&db, args.limit).await?;
    if args.output.json {
        return output::json(&found);
    }
    let row = |s: Settings| vec![s.tenant, s.require_https.to_string(), s.plain_http_endpoints.to_string()];
    output::table(&["tenant", "require https", "endpoints with http"], found.into_iter().map(row))
}

fn print(settings: &Settings, json: bool) -> Result<(), Failure> {
    if json {
        return output::json(settings);
    }
    output::pairs(&[
        ("tenant", settings.tenant.clone()),
        ("require https", settings.require_https.to_string()),
        ("endpoints with http", settings.plain_http_endpoints.to_string()),
        ("changed", or_dash(settings.updated_at.map(|at| at.format("%F %T UTC").to_string()))),
    ])
}
