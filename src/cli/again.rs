//! `posthaste resend` and `posthaste retry-now`.

use chrono::{DateTime, Utc};
use clap::Args;
use uuid::Uuid;

use super::output::Output;
use super::parse;
use crate::domain::delivery::Status;
use crate::domain::outcome::ErrorClass;

/// Which deliveries are meant: those that meet every condition given.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Selection")]
pub struct AgainFilter {
    /// Deliveries of this event; may be repeated.
    #[arg(long = "event", value_name = "ID")]
    pub events: Vec<Uuid>,
    /// Deliveries to this endpoint.
    #[arg(long, value_name = "ID")]
    pub endpoint: Option<Uuid>,
    /// Deliveries of this tenant.
    #[arg(long, value_parser = parse::tenant)]
    pub tenant: Option<String>,
    /// Deliveries of events of this type.
    #[arg(long, value_name = "TYPE", value_parser = parse::event_type)]
    pub event_type: Option<String>,
    /// Deliveries whose last attempt was answered with this status code; may be repeated.
    #[arg(long = "status-code", value_name = "CODE", value_parser = parse::status_code)]
    pub status_codes: Vec<i32>,
    /// Deliveries whose last attempt failed without an answer, like timeout or refused; may be repeated. With --status-code:
    /// either of the two.
    #[arg(long = "error", value_name = "ERROR", value_parser = parse::error_class)]
    pub errors: Vec<ErrorClass>,
    /// Deliveries of events created at or after this time, or so long ago: 2026-05-01T12:00:00Z or 2h.
    #[arg(long, value_name = "TIME", value_parser = parse::moment)]
    pub since: Option<DateTime<Utc>>,
    /// Deliveries of events created before this time, or so long ago.
    #[arg(long, value_name = "TIME", value_parser = parse::moment)]
    pub until: Option<DateTime<Utc>>,
}

#[derive(Debug, Args)]
#[group(id = "resent", required = true, multiple = true, args = [
    "events", "endpoint", "tenant", "event_type", "status_codes", "errors", "since", "until", "status", "all", "go_on",
])]
pub struct Resend {
    #[command(flatten)]
    pub filter: AgainFilter,
    /// Only those that ended like this: delivered or dead.
    #[arg(long, value_parser = parse::finished)]
    pub status: Option<Status>,
    /// Everything that has ended.
    #[arg(long, conflicts_with_all = [
        "events", "endpoint", "tenant", "event_type", "status_codes", "errors", "since", "until", "status",
    ])]
    pub all: bool,
    /// Go on with a resend that was interrupted, by its number; nothing is sent twice by it.
    #[arg(long = "continue", value_name = "NUMBER", conflicts_with_all = [
        "events", "endpoint", "tenant", "event_type", "status_codes", "errors", "since", "until", "status", "all",
    ])]
    pub go_on: Option<i64>,
    /// Only say how many deliveries are meant.
    #[arg(long)]
    pub dry_run: bool,
    /// Deliveries per second at most [default: relay.release_rate, which is 500].
    #[arg(long, value_name = "N", value_parser = parse::rate)]
    pub rate: Option<i32>,
    /// Leave the dead-letter queue as it is. The next requeue or reconcile removes the dead letters of what is sent again.
    #[arg(long)]
    pub no_sweep: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
#[group(id = "retried", required = true, multiple = true, args = [
    "events", "endpoint", "tenant", "event_type", "status_codes", "errors", "since", "until", "all",
])]
pub struct RetryNow {
    #[command(flatten)]
    pub filter: AgainFilter,
    /// Everything that waits.
    #[arg(long, conflicts_with_all = [
        "events", "endpoint", "tenant", "event_type", "status_codes", "errors", "since", "until",
    ])]
    pub all: bool,
    /// Only say how many deliveries are meant.
    #[arg(long)]
    pub dry_run: bool,
    /// Deliveries per second at most [default: relay.release_rate, which is 500].
    #[arg(long, value_name = "N", value_parser = parse::rate)]
    pub rate: Option<i32>,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub output: Output,
}
