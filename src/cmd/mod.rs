//! Composition roots: each sub-command puts its parts together and runs them.

use std::process::ExitCode;

mod again;
mod bench;
mod capacity;
mod compose;
mod confirm;
mod dead;
mod doctor;
mod endpoint;
mod erase;
mod event;
mod failure;
mod history;
mod keys;
mod open_files;
mod output;
mod policy;
mod progress;
mod public_keys;
mod receiver;
mod reconcile;
mod roles;
mod schema;
mod serve;
mod stats;
mod tenant;
mod threads;
mod topology;
mod traces;

use failure::{Failure, Outcome};

use crate::cli::{Cli, Command};
use crate::telemetry::logging;

/// Runs one command and turns its failure into a message on stderr and an exit code.
pub fn main(cli: Cli) -> ExitCode {
    let runtime = match threads::runtime(&cli.command) {
        Ok(runtime) => runtime,
        Err(failure) => return told(&failure),
    };
    let result = runtime.block_on(dispatch(cli));
    // Whatever still runs was abandoned on purpose; its messages are unacknowledged.
    runtime.shutdown_background();
    logging::flush();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => told(&failure),
    }
}

fn told(failure: &Failure) -> ExitCode {
    let text = format!("posthaste: {failure}{}", failure.advice());
    logging::say(&text.split('\n').map(output::plain).collect::<Vec<_>>().join("\n"));
    failure.code()
}

async fn dispatch(cli: Cli) -> Outcome {
    let overrides = cli.global.overrides();
    match cli.command {
        Command::Keygen => schema::keygen(),
        Command::Completions { shell } => schema::completions(shell),
        Command::Migrate => schema::migrate(&compose::load(&overrides)?).await,
        Command::Run => serve::run(&compose::load(&overrides)?, serve::Roles::BOTH).await,
        Command::Relay => serve::run(&compose::load(&overrides)?, serve::Roles::RELAY).await,
        Command::Worker => serve::run(&compose::load(&overrides)?, serve::Roles::WORKER).await,
        Command::Keys(command) => keys::run(&compose::load(&overrides)?, command).await,
        Command::Endpoint(command) => endpoint::run(&compose::load(&overrides)?, command).await,
        Command::Tenant(command) => tenant::run(&compose::load(&overrides)?, command).await,
        Command::Policy(command) => policy::run(&compose::load(&overrides)?, command).await,
        Command::Event(command) => event::run(&compose::load(&overrides)?, command).await,
        Command::Dead(command) => dead::run(&compose::load(&overrides)?, command).await,
        Command::Requeue(args) => dead::requeue(&compose::load(&overrides)?, args).await,
        Command::Resend(args) => again::resend(&compose::load(&overrides)?, args).await,
        Command::RetryNow(args) => again::retry_now(&compose::load(&overrides)?, args).await,
        Command::Reconcile(args) => reconcile::run(&compose::load(&overrides)?, args).await,
        Command::Topology(command) => topology::run(&compose::load(&overrides)?, command).await,
        Command::Roles(command) => roles::run(&compose::load(&overrides)?, &command),
        Command::Doctor(args) => doctor::run(&compose::load(&overrides)?, &args).await,
        Command::Erase(args) => erase::run(&compose::load(&overrides)?, args).await,
        Command::History(command) => history::run(&compose::load(&overrides)?, command).await,
        Command::Stats(args) => stats::run(&compose::load(&overrides)?, &args).await,
        Command::Receiver(args) => receiver::run(args).await,
        Command::Capacity(args) => capacity::run(&compose::load(&overrides)?, &args),
        Command::Bench(command) => bench::run(&compose::load(&overrides)?, command).await,
    }
}
