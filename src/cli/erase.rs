//! `posthaste erase`: what events said goes, and that there were any stays.

use clap::Args;
use uuid::Uuid;

use super::output::Output;
use super::parse;

#[derive(Debug, Args)]
#[group(id = "target", required = true, multiple = false, args = ["event", "tenant", "endpoint"])]
pub struct Erase {
    /// This event.
    #[arg(long, value_name = "ID")]
    pub event: Option<Uuid>,
    /// All events of this tenant.
    #[arg(long, value_parser = parse::tenant)]
    pub tenant: Option<String>,
    /// What this endpoint was sent and has answered. The payload of an event that other endpoints got too is kept.
    #[arg(long, value_name = "ID")]
    pub endpoint: Option<Uuid>,
    /// Only say how much is meant.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub output: Output,
}
