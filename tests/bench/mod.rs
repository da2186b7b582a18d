//! Measures what an event costs and how fast the whole and its parts are, beside the least that each part could cost.
//! `scripts/bench` runs it; docs/benchmarks.md says what the figures mean.

mod floor;
mod kinds;
mod options;
mod row;
mod work;

use std::path::Path;
use std::process::ExitCode;

use serde::Serialize;

use crate::frame::build;
use crate::isolation::usage;
use floor::Floor;
use options::{Kind, Options};
use row::Row;

#[derive(Serialize)]
struct Report {
    build: &'static str,
    cores: usize,
    quick: bool,
    /// The load average of the last minute, before and after.
    load: (f64, f64),
    floor: Floor,
    rows: Vec<Row>,
    /// Kinds that could not be finished, and why.
    failed: Vec<String>,
}

pub async fn run(dir: &Path) -> ExitCode {
    let options: Options = crate::frame::options();
    let (before, cores) = usage::load();
    eprintln!("floor");
    let floor = match floor::measure(&options, dir).await {
        Ok(floor) => floor,
        Err(error) => {
            eprintln!("the floor could not be measured: {error}");
            return ExitCode::FAILURE;
        }
    };
    options.output.say(&floor.text());
    let (mut rows, mut failed) = (Vec::new(), Vec::new());
    for kind in options.kinds() {
        eprintln!("{}", kind.name());
        match measure(kind, &options, dir).await {
            Ok(mut measured) => {
                measured.iter_mut().for_each(|row| row.compare(&floor));
                options.output.say(&row::text(&measured));
                rows.extend(measured);
            }
            Err(error) => {
                eprintln!("{} could not be finished: {error}", kind.name());
                failed.push(format!("{}: {error}", kind.name()));
            }
        }
    }
    let load = (before, usage::load().0);
    options.output.say(&format!(
        "{} build, {cores} cores, load average {:.1} before and {:.1} after",
        build(),
        load.0,
        load.1
    ));
    let is_good = failed.is_empty();
    options.output.end(&Report { build: build(), cores, quick: options.quick, load, floor, rows, failed }, is_good)
}

async fn measure(kind: Kind, options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    match kind {
        Kind::Burst => kinds::burst::run(options, dir).await,
        Kind::Ingest => kinds::ingest::run(options, dir).await,
        Kind::Steady => kinds::steady::run(options, dir).await,
        Kind::Relay => kinds::relay::run(options, dir).await,
        Kind::Worker => kinds::worker::run(options, dir).await,
        Kind::Retry => kinds::retry::run(options, dir).await,
        Kind::Fanout => kinds::fanout::run(options, dir).await,
        Kind::Growth => kinds::growth::run(options, dir).await,
        Kind::Scale => kinds::scale::run(options, dir).await,
        Kind::Size => kinds::size::run(options, dir).await,
        Kind::Payload => kinds::payload::run(options, dir).await,
    }
}
