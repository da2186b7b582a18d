//! `posthaste keys`: the encryption keys.

use clap::{Args, Subcommand};

use super::output::Output;

#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Which encryption keys are configured, which one seals, what each has sealed, and what none of them opens.
    List(Output),
    /// Seal everything with the first configured key, while all goes on. May be killed and run again.
    Rotate(RotateKeys),
}

#[derive(Debug, Args)]
pub struct RotateKeys {
    /// Open everything and say how much would be sealed again.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub output: Output,
}
