//! `posthaste doctor`.

use clap::Args;

use super::output::Output;
use super::parse;

#[derive(Debug, Args)]
pub struct Doctor {
    /// The names of the roles in PostgreSQL begin with this, as for `posthaste roles sql`.
    #[arg(long, value_name = "PREFIX", default_value = "posthaste", value_parser = parse::role_prefix)]
    pub role_prefix: String,
    #[command(flatten)]
    pub output: Output,
}
