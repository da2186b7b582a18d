//! Measures how well endpoints are kept apart. `scripts/isolation` runs it; docs/isolation.md says what the figures mean.

// What only the chaos run needs of these modules is unused here.
#[path = "../chaos/binary.rs"]
mod binary;
#[allow(dead_code)]
#[path = "../chaos/postgres.rs"]
mod postgres;
#[allow(dead_code)]
#[path = "../chaos/programs.rs"]
mod programs;
#[allow(dead_code)]
#[path = "../chaos/rabbitmq.rs"]
mod rabbitmq;
#[allow(dead_code)]
#[path = "../chaos/unix.rs"]
mod unix;

mod broker;
mod cpu;
mod endpoints;
mod figures;
mod healthy;
mod http;
mod in_flight;
mod latency;
mod load;
mod options;
mod peaks;
mod plot;
mod process;
mod receiver;
mod report;
mod scenarios;
mod stack;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use options::{Options, Scenario};
use plot::Plots;
use report::Report;

/// As a shell reports an end by Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let Ok(dir) = programs::variable("DIR") else {
        println!("This is run by scripts/isolation, which finds PostgreSQL and RabbitMQ first.");
        return ExitCode::SUCCESS;
    };
    let options = Options::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        tokio::select! {
            status = run(&options, PathBuf::from(dir)) => status,
            // What was started is killed when it is dropped.
            () = interrupted() => ExitCode::from(INTERRUPTED),
        }
    })
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
    let mut reports = Vec::new();
    let mut unfinished = false;
    for scenario in options.scenarios() {
        eprintln!("{}", scenario.name());
        match measure(scenario, options, &dir).await {
            Ok(report) => {
                // At once: a later measurement may take long.
                let text = report.text();
                if options.json {
                    eprintln!("{text}")
                } else {
                    println!("{text}")
                }
                reports.push(report);
            }
            Err(error) => {
                eprintln!("{} could not be finished: {error}", scenario.name());
                unfinished = true;
            }
        }
    }
    if options.json {
        println!("{}", serde_json::to_string_pretty(&reports).expect("a report is plain data"));
    }
    if unfinished || !reports.iter().all(Report::is_good) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

async fn measure(scenario: Scenario, options: &Options, dir: &Path) -> Result<Report, String> {
    let (began, (before, cores)) = (Instant::now(), process::load());
    let plots = Plots(options.plots.clone());
    let shown = match scenario {
        Scenario::Neighbour => scenarios::neighbour::run(options, dir, &plots).await,
        Scenario::Outage => scenarios::outage::run(options, dir, &plots).await,
        Scenario::Herd => scenarios::herd::run(options, dir, &plots).await,
        Scenario::Limited => scenarios::limited::run(options, dir, &plots).await,
        Scenario::Replay => scenarios::replay::run(options, dir, &plots).await,
        Scenario::Many => scenarios::many::run(options, dir, &plots).await,
        Scenario::Burst => scenarios::burst::run(options, dir, &plots).await,
        Scenario::Drain => scenarios::drain::run(options, dir).await,
        Scenario::Fanout => scenarios::fanout::run(options, dir).await,
        Scenario::Wide => scenarios::wide::run(options, dir).await,
        Scenario::Recover => scenarios::recover::run(options, dir, &plots).await,
        Scenario::Join => scenarios::join::run(options, dir).await,
        Scenario::Light => scenarios::light::run(options, dir, &plots).await,
    }?;
    Ok(Report {
        scenario: scenario.name(),
        seconds: began.elapsed().as_secs_f64(),
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
        cores,
        load: (before, process::load().0),
        tables: shown.tables,
        figures: shown.figures,
        claims: shown.claims,
    })
}
