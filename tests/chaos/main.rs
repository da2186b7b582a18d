//! Kills, cuts, freezes and wipes whatever Posthaste stands on, and audits what was delivered. `scripts/chaos` runs it.

mod audit;
mod binary;
mod blame;
mod commits;
mod conversation;
mod faults;
mod growth;
mod kind;
mod ledger;
mod options;
mod postgres;
mod producers;
mod programs;
mod proxy;
mod rabbitmq;
mod receiver;
mod report;
mod request;
mod rounds;
mod run;
mod scenarios;
mod schedule;
mod service;
mod stack;
mod statements;
mod text;
mod unix;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use options::{Options, Scenario};
use report::Report;

/// As a shell reports an end by Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let Ok(dir) = programs::variable("DIR") else {
        println!("This is run by scripts/chaos, which finds PostgreSQL and RabbitMQ first.");
        return ExitCode::SUCCESS;
    };
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let status = runtime.block_on(async {
        tokio::select! {
            status = run(&options, PathBuf::from(dir)) => status,
            // What was started is killed when it is dropped.
            () = interrupted() => ExitCode::from(INTERRUPTED),
        }
    });
    drop(runtime);
    status
}

async fn interrupted() {
    let mut terminate =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).expect("a signal handler");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

async fn run(options: &Options, dir: PathBuf) -> ExitCode {
    let result = match options.scenario {
        Scenario::Faults => run::with_faults(options, &dir).await,
        Scenario::Rolling => scenarios::rolling::run(options, &dir).await,
        Scenario::Wipe => scenarios::wipe::run(options, &dir).await,
        Scenario::Snapshot => scenarios::snapshot::run(options, &dir).await,
        Scenario::Soak => scenarios::soak::run(options, &dir).await,
        Scenario::Backlog => scenarios::backlog::run(options, &dir).await,
    };
    match result {
        Ok(report) => show(options, &report),
        Err(error) => {
            eprintln!("the run could not be finished: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(options: &Options, report: &Report) -> ExitCode {
    if options.json {
        println!("{}", serde_json::to_string_pretty(report).expect("a report is plain data"));
    } else {
        println!("{}", report.text());
    }
    if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
