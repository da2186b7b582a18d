//! `posthaste history`: the days of history.

use chrono::NaiveDate;
use clap::{Args, Subcommand};

use super::output::Output;

#[derive(Debug, Subcommand)]
pub enum History {
    /// List the days with their sizes, what is unfinished in them, and what keeps those that are too old.
    Show(Output),
    /// Drop days by hand, as the relay does with those that are older than the retention.
    Drop(DropDays),
}

#[derive(Debug, Args)]
pub struct DropDays {
    /// Days before this one, by UTC: 2026-05-01. The last days, which are still written to, are never dropped.
    #[arg(long, value_name = "DATE")]
    pub before: NaiveDate,
    /// End what is unfinished in them as dead (expired) first; otherwise it keeps its day.
    #[arg(long)]
    pub expire: bool,
    /// Only say which days are meant, and what keeps them.
    #[arg(long)]
    pub dry_run: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub output: Output,
}
