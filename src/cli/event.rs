//! `posthaste event`, `posthaste dead` and `posthaste requeue`.

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use uuid::Uuid;

use super::output::Output;
use super::parse::{self, Payload};
use crate::domain::dead_reason::DeadReason;
use crate::domain::delivery::Status;
use crate::domain::outcome::ErrorClass;

#[derive(Debug, Subcommand)]
pub enum Event {
    /// Emit one event, as a producer would.
    Emit(Emit),
    /// Show the life of an event: each delivery with its attempts, the answers, and what it waits for.
    Show(ShowEvent),
    /// List events, the newest first.
    List(ListEvents),
}

#[derive(Debug, Args)]
pub struct Emit {
    /// The customer that the event is for.
    #[arg(long, value_parser = parse::tenant)]
    pub tenant: String,
    /// Type of the event, like order.created.
    #[arg(long = "type", value_name = "TYPE", value_parser = parse::event_type)]
    pub event_type: String,
    /// The payload: JSON, @file, or - for stdin. It is sent byte for byte.
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true, value_parser = |text: &str| Ok::<_, String>(Payload::from(text)))]
    pub payload: Payload,
    /// An event with a key seen before is not emitted again.
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
    /// Attempts at most, below what the retry policy allows.
    #[arg(long, value_name = "N", value_parser = |text: &str| parse::count(text, 1, 1000))]
    pub max_attempts: Option<i32>,
    /// W3C trace context to pass on.
    #[arg(long)]
    pub traceparent: Option<String>,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ShowEvent {
    /// Id of the event.
    #[arg(value_parser = parse::id)]
    pub id: Uuid,
    /// Only the delivery to this endpoint.
    #[arg(long, value_name = "ID", value_parser = parse::id)]
    pub endpoint: Option<Uuid>,
    /// Print the payload, too.
    #[arg(long)]
    pub payload: bool,
    #[command(flatten)]
    pub output: Output,
}

/// Which events are meant: those that meet every condition. Conditions on a delivery are met by one and the same.
#[derive(Debug, Args)]
pub struct ListEvents {
    /// Only those of this tenant.
    #[arg(long, value_parser = parse::tenant)]
    pub tenant: Option<String>,
    /// Only those of this type.
    #[arg(long, visible_alias = "type", value_name = "TYPE", value_parser = parse::event_type)]
    pub event_type: Option<String>,
    /// Only those whose type is like this; * stands for anything: 'order.*', '*.failed'.
    #[arg(long, value_name = "PATTERN", value_parser = parse::type_pattern)]
    pub like: Option<String>,
    /// Only those with a delivery in this state, like held.
    #[arg(long, value_parser = parse::status)]
    pub status: Option<Status>,
    /// Only those with a delivery to this endpoint.
    #[arg(long, value_name = "ID", value_parser = parse::id)]
    pub endpoint: Option<Uuid>,
    /// Only those with a delivery whose last attempt was answered with this status code.
    #[arg(long, value_name = "CODE", value_parser = |text: &str| parse::count(text, 100, 999))]
    pub code: Option<i32>,
    /// Only those since this time, or so long ago: 2026-05-01T12:00:00Z or 2h.
    #[arg(long, value_name = "TIME", value_parser = parse::moment)]
    pub since: Option<DateTime<Utc>>,
    /// Only those before this time, or so long ago.
    #[arg(long, value_name = "TIME", value_parser = parse::moment)]
    pub until: Option<DateTime<Utc>>,
    /// Only those older than this event: the next page, after the last row of the one before.
    #[arg(long, value_name = "ID", value_parser = parse::id)]
    pub before: Option<Uuid>,
    /// Rows at most.
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse::limit)]
    pub limit: i64,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Subcommand)]
pub enum Dead {
    /// List dead letters, the newest first.
    List(ListDead),
    /// Show an event's dead letters with their attempts.
    Show(DeliveryId),
}

#[derive(Debug, Args)]
pub struct DeliveryId {
    /// Id of the event.
    #[arg(value_parser = parse::id)]
    pub id: Uuid,
    /// Only the delivery to this endpoint.
    #[arg(long, value_name = "ID", value_parser = parse::id)]
    pub endpoint: Option<Uuid>,
    /// Print the payload, too.
    #[arg(long)]
    pub payload: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ListDead {
    #[command(flatten)]
    pub filter: DeadFilter,
    /// Rows at most.
    #[arg(long, value_name = "N", default_value = "100", value_parser = parse::limit)]
    pub limit: i64,
    #[command(flatten)]
    pub output: Output,
}

/// Which dead deliveries are meant: those that meet every condition given.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Selection")]
pub struct DeadFilter {
    /// Deliveries of this event; may be repeated.
    #[arg(long = "event", value_name = "ID", value_parser = parse::id)]
    pub events: Vec<Uuid>,
    /// Deliveries to this endpoint.
    #[arg(long, value_name = "ID", value_parser = parse::id)]
    pub endpoint: Option<Uuid>,
    /// Deliveries of this tenant.
    #[arg(long, value_parser = parse::tenant)]
    pub tenant: Option<String>,
    /// Deliveries of events of this type.
    #[arg(long, value_name = "TYPE", value_parser = parse::event_type)]
    pub event_type: Option<String>,
    /// Deliveries that died for this reason, like exhausted.
    #[arg(long, value_parser = parse::dead_reason)]
    pub reason: Option<DeadReason>,
    /// Deliveries whose last attempt was answered with this status code; may be repeated.
    #[arg(long = "status-code", value_name = "CODE", value_parser = parse::status_code)]
    pub status_codes: Vec<i32>,
    /// Deliveries whose last attempt failed without an answer, like timeout or refused; may be repeated. With --status-code:
    /// either of the two.
    #[arg(long = "error", value_name = "ERROR", value_parser = parse::error_class)]
    pub errors: Vec<ErrorClass>,
    /// Deliveries that died at or after this time, or so long ago: 2026-05-01T12:00:00Z or 2h.
    #[arg(long, value_name = "TIME", value_parser = parse::moment)]
    pub since: Option<DateTime<Utc>>,
    /// Deliveries that died before this time, or so long ago.
    #[arg(long, value_name = "TIME", value_parser = parse::moment)]
    pub until: Option<DateTime<Utc>>,
}

#[derive(Debug, Args)]
#[group(id = "selection", required = true, multiple = true, args = [
    "events", "endpoint", "tenant", "event_type", "reason", "status_codes", "errors", "since", "until", "all",
])]
pub struct Requeue {
    #[command(flatten)]
    pub filter: DeadFilter,
    /// Every dead delivery.
    #[arg(long, conflicts_with_all = [
        "events", "endpoint", "tenant", "event_type", "reason", "status_codes", "errors", "since", "until",
    ])]
    pub all: bool,
    /// Replay what the endpoint has missed: events created in the given time that it was never owed, because it was added
    /// or changed later; and its dead deliveries of events of that time.
    #[arg(long, requires_all = ["endpoint", "since"], conflicts_with_all = [
        "events", "tenant", "event_type", "reason", "status_codes", "errors", "all",
    ])]
    pub missing: bool,
    /// Only say how many deliveries are meant.
    #[arg(long)]
    pub dry_run: bool,
    /// Deliveries per second at most [default: relay.release_rate, which is 500].
    #[arg(long, value_name = "N", value_parser = parse::rate)]
    pub rate: Option<i32>,
    /// Leave the dead-letter queue as it is: looking through a long one takes longer than requeueing a few deliveries.
    /// The next requeue or reconcile removes the dead letters of what is requeued.
    #[arg(long)]
    pub no_sweep: bool,
    /// Do not ask.
    #[arg(long)]
    pub yes: bool,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct Reconcile {
    /// Only say what would be published again, and why.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub output: Output,
}
