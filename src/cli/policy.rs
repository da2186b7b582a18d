//! `posthaste policy`: the retry policies, and their budgets while the service runs.

use clap::{Args, Subcommand};

use super::output::Output;
use super::parse::{self, Setting};

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// List the retry policies of the configuration, with the budgets in force and the worst cases.
    List(Output),
    /// Change a policy's retry budget in all workers, without a restart.
    Set(SetPolicy),
}

#[derive(Debug, Args)]
pub struct SetPolicy {
    /// Name of the policy as in `retry.policies`; default is [retry] itself.
    #[arg(value_parser = parse::policy_name)]
    pub policy: String,
    /// Retries of a delivery at most, the first attempt not counted; 0: no such limit; none: as the configuration says.
    #[arg(long, value_name = "N|none", value_parser = |text: &str| parse::setting(text, |text| parse::count(text, 0, 1000)))]
    pub budget: Setting<i32>,
    #[command(flatten)]
    pub output: Output,
}
