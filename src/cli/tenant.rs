//! `posthaste tenant`: rules for all endpoints of a tenant.

use clap::{ArgAction, Args, Subcommand};

use super::output::Output;
use super::parse;

#[derive(Debug, Subcommand)]
pub enum Tenant {
    /// Change what is given and leave the rest.
    Set(SetTenant),
    /// Show one tenant's rules.
    Show(TenantName),
    /// List the tenants that have rules.
    List(ListTenants),
}

#[derive(Debug, Args)]
pub struct SetTenant {
    /// The tenant, as its endpoints name it.
    #[arg(value_parser = parse::tenant)]
    pub tenant: String,
    /// Refuse endpoints with http://; those that there are get disabled when they are next sent to.
    #[arg(long, action = ArgAction::Set, value_name = "true|false", required = true)]
    pub require_https: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct TenantName {
    /// The tenant, as its endpoints name it.
    #[arg(value_parser = parse::tenant)]
    pub tenant: String,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ListTenants {
    /// Rows at most.
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse::limit)]
    pub limit: i64,
    #[command(flatten)]
    pub output: Output,
}
