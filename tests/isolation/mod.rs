//! Measures how well endpoints are kept apart. `scripts/isolation` runs it; docs/isolation.md says what the figures mean.

pub mod broker;
pub mod cpu;
pub mod endpoints;
pub mod figures;
mod healthy;
mod history;
mod in_flight;
pub mod latency;
pub mod load;
mod options;
pub mod peaks;
pub mod plot;
pub mod receiver;
pub mod report;
mod scenarios;
pub mod stack;
pub mod usage;

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use crate::frame::build;
use options::{Options, Scenario};
use plot::Plots;
use report::Report;

pub async fn run(dir: &Path) -> ExitCode {
    let options: Options = crate::frame::options();
    let mut reports = Vec::new();
    let mut finished = true;
    for scenario in options.scenarios() {
        eprintln!("{}", scenario.name());
        match measure(scenario, &options, dir).await {
            Ok(report) => {
                options.output.say(&report.text());
                reports.push(report);
            }
            Err(error) => {
                eprintln!("{} could not be finished: {error}", scenario.name());
                finished = false;
            }
        }
    }
    options.output.end(&reports, finished && reports.iter().all(Report::is_good))
}

async fn measure(scenario: Scenario, options: &Options, dir: &Path) -> Result<Report, String> {
    let (began, (before, cores)) = (Instant::now(), usage::load());
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
        Scenario::Telemetry => scenarios::telemetry::run(options, dir).await,
        Scenario::History => scenarios::history::run(options, dir).await,
        Scenario::Light => scenarios::light::run(options, dir, &plots).await,
    }?;
    Ok(Report {
        scenario: scenario.name(),
        seconds: began.elapsed().as_secs_f64(),
        build: build(),
        cores,
        load: (before, usage::load().0),
        shown,
    })
}
