//! The command line: clap types only. What a command does is in `cmd`.

mod again;
mod bench;
mod capacity;
mod doctor;
mod endpoint;
mod erase;
mod event;
mod history;
mod keys;
mod output;
mod parse;
mod policy;
mod roles;
mod stats;
mod tenant;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue};
use clap::{Args, Parser, Subcommand};
use secrecy::SecretString;

pub use again::{AgainFilter, Resend, RetryNow};
pub use bench::{Bench, Burst, ReceiverArgs};
pub use capacity::Capacity;
pub use doctor::Doctor;
pub use endpoint::{AddEndpoint, Endpoint, EndpointId, ListEndpoints, RotateSecret, Scheme, SetEndpoint};
pub use erase::Erase;
pub use event::{Dead, DeadFilter, DeliveryId, Emit, Event, ListDead, ListEvents, Reconcile, Requeue, ShowEvent};
pub use history::{DropDays, History};
pub use keys::{Keys, RotateKeys};
pub use output::Output;
pub use parse::{Header, Payload, Setting};
pub use policy::{Policy, SetPolicy};
pub use roles::Roles;
pub use stats::Stats;
pub use tenant::{ListTenants, SetTenant, Tenant, TenantName};

use crate::config::Overrides;

/// Usage and configuration errors, as in BSD's sysexits: a supervisor can tell them from a failure that may pass.
pub const EXIT_USAGE: u8 = 64;

/// Turns committed PostgreSQL rows into signed, retried webhooks through RabbitMQ.
#[derive(Debug, Parser)]
#[command(name = "posthaste", version, max_term_width = 100, propagate_version = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file [default: config/posthaste.toml, if it exists].
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// URL of PostgreSQL; wins over the environment and the file.
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<SecretString>,
    /// URL of RabbitMQ; wins over the environment and the file.
    #[arg(long, global = true, value_name = "URL")]
    amqp_url: Option<SecretString>,
}

impl Global {
    pub fn overrides(&self) -> Overrides {
        Overrides {
            file: self.config.clone(),
            database_url: self.database_url.clone(),
            amqp_url: self.amqp_url.clone(),
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create or update the schema `posthaste` in PostgreSQL.
    Migrate,
    /// Relay and worker in one process.
    Run,
    /// Move events from the outbox to the broker.
    Relay,
    /// Take messages from the broker and deliver them.
    Worker,
    /// Give dead deliveries a fresh set of attempts.
    Requeue(Requeue),
    /// Send what has ended once more, delivered or dead: with the same webhook-id, and a new series of attempts.
    Resend(Resend),
    /// Try at once what waits for a later attempt.
    RetryNow(RetryNow),
    /// Publish again what the broker has lost, and set the dead-letter queue right.
    Reconcile(Reconcile),
    /// The exchanges and queues in RabbitMQ.
    #[command(subcommand)]
    Topology(Topology),
    /// Users of PostgreSQL and RabbitMQ that may do no more than they need.
    #[command(subcommand)]
    Roles(Roles),
    /// Make an encryption key for `security.encryption_key`.
    Keygen,
    /// The encryption keys: which there are, and changing them.
    #[command(subcommand)]
    Keys(Keys),
    /// The endpoints that webhooks are sent to.
    #[command(subcommand)]
    Endpoint(Endpoint),
    /// Rules for all endpoints of a tenant.
    #[command(subcommand)]
    Tenant(Tenant),
    /// Retry policies and their budgets.
    #[command(subcommand)]
    Policy(Policy),
    /// Events and how their deliveries went.
    #[command(subcommand)]
    Event(Event),
    /// Dead letters: deliveries that are not tried again unless requeued.
    #[command(subcommand)]
    Dead(Dead),
    /// Check servers, schema, rights, queues and this host: one line each, with what to do. Exits with 1 if a check fails.
    Doctor(Doctor),
    /// Erase payloads, headers and answers; rows and counts stay.
    Erase(Erase),
    /// The days of history: events, deliveries and attempts.
    #[command(subcommand)]
    History(History),
    /// Counts of pending events and of deliveries by status, and this month's objective; or what is going on just now.
    Stats(Stats),
    /// A test receiver that verifies signatures and fails in the way it is told to.
    Receiver(ReceiverArgs),
    /// What a load needs, computed from measured costs: processes, cores, disk, queues, and the limit that comes first. Asks no server.
    Capacity(Capacity),
    /// Measure a running installation.
    #[command(subcommand)]
    Bench(Bench),
    /// Print the completions for a shell.
    Completions { shell: clap_complete::Shell },
}

#[derive(Debug, Subcommand)]
pub enum Topology {
    /// Declare every exchange and queue that the configuration needs.
    Declare,
    /// Say what is missing or differs; exits with 1 if anything does.
    Check(Output),
    /// Remove empty delay queues that no retry policy names.
    Prune {
        /// Only say what would be removed.
        #[arg(long)]
        dry_run: bool,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        output: Output,
    },
}

/// Reads the command line. Help goes to stdout with exit code 0, a mistake to stderr with 64.
pub fn parse() -> Result<Cli, ExitCode> {
    parse_from(std::env::args_os())
}

pub fn parse_from(arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Cli, ExitCode> {
    Cli::try_parse_from(arguments).map_err(|error| {
        let error = without_secret(error);
        // A closed pipe must not change the exit code.
        let _ = error.print();
        if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS }
    })
}

/// clap repeats a value that it refuses; that of a secret must not reach a log.
fn without_secret(mut error: clap::Error) -> clap::Error {
    let argument = error.get(ContextKind::InvalidArg).map(ToString::to_string).unwrap_or_default();
    if ["--secret", "--header"].iter().any(|secret| argument.starts_with(secret)) {
        error.insert(ContextKind::InvalidValue, ContextValue::String("[redacted]".into()));
    }
    error
}
