//! How a command prints what it found.

use clap::Args;

#[derive(Debug, Clone, Copy, Args)]
pub struct Output {
    /// Print one JSON value instead of a table.
    #[arg(long)]
    pub json: bool,
}
