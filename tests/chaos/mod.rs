//! Kills, cuts, freezes and wipes whatever Posthaste stands on, and audits what was delivered. `scripts/chaos` runs it.

mod audit;
mod blame;
mod cluster;
mod commits;
mod conversation;
mod faults;
mod growth;
mod kind;
mod ledger;
mod options;
mod producers;
mod proxy;
mod receiver;
mod report;
mod rounds;
mod run;
mod scenarios;
mod schedule;
mod servers;
mod service;
mod stack;
mod standby;
mod statements;
mod text;

use std::path::Path;
use std::process::ExitCode;

use options::{Options, Scenario};

pub use scenarios::chain::serve as serve_customer;

pub async fn run(dir: &Path) -> ExitCode {
    let options: Options = crate::frame::options();
    let report = match options.scenario {
        Scenario::Faults => run::with_faults(&options, dir).await,
        Scenario::Rolling => scenarios::rolling::run(&options, dir).await,
        Scenario::Wipe => scenarios::wipe::run(&options, dir).await,
        Scenario::Snapshot => scenarios::snapshot::run(&options, dir).await,
        Scenario::Soak => scenarios::soak::run(&options, dir).await,
        Scenario::Backlog => scenarios::backlog::run(&options, dir).await,
        Scenario::Chain => scenarios::chain::run(&options, dir).await,
        Scenario::Cluster => scenarios::cluster::run(&options, dir).await,
        Scenario::Failover => scenarios::failover::run(&options, dir).await,
        Scenario::Upgrade => scenarios::upgrade::run(&options, dir).await,
    };
    match report {
        Ok(report) => {
            options.output.say(&report.text());
            options.output.end(&report, report.is_good())
        }
        Err(error) => {
            eprintln!("the run could not be finished: {error}");
            ExitCode::FAILURE
        }
    }
}
