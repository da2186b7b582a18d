//! `posthaste stats`.

use std::time::Duration;

use clap::Args;

use super::output::Output;
use super::parse;

#[derive(Debug, Args)]
pub struct Stats {
    /// Show what is going on just now, again and again, until interrupted.
    #[arg(long)]
    pub watch: bool,
    /// Time between two looks.
    #[arg(long, value_name = "TIME", default_value = "2s", requires = "watch", value_parser = parse::interval)]
    pub interval: Duration,
    /// Look so many times, and end.
    #[arg(long, value_name = "N", requires = "watch", value_parser = clap::value_parser!(u32).range(1..))]
    pub samples: Option<u32>,
    #[command(flatten)]
    pub output: Output,
}
