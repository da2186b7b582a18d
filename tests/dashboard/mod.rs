//! Runs every query of the dashboard against a Prometheus that has scraped a real run, and draws what they give.
//! `scripts/dashboard` runs it.

mod load;
mod panels;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::Parser;

use crate::frame::options;
use crate::incident::prometheus::Prometheus;
use crate::incident::scene::Scene;
use crate::isolation::plot::{Axes, Line, Plots};
use panels::{Panel, panels};

/// So much faster than the files say, scrapes come every half second.
const FACTOR: u32 = 30;
const RATE_INTERVAL: &str = "5s";
const STEP: f64 = 0.5;
/// Series of a picture.
const MOST: usize = 12;

/// Exits with 1 where a query of config/grafana/posthaste.json gives nothing.
#[derive(Debug, Clone, Parser)]
#[command(name = "scripts/dashboard", bin_name = "scripts/dashboard", max_term_width = 100)]
struct Options {
    /// Seconds of load.
    #[arg(long, value_name = "N", default_value = "75", value_parser = clap::value_parser!(u64).range(60..=3600))]
    seconds: u64,
    /// Draw what the panels show there, as SVG.
    #[arg(long, value_name = "DIR")]
    plots: Option<PathBuf>,
}

pub async fn run(dir: &Path) -> ExitCode {
    let options: Options = options();
    match check(dir, &options).await {
        Ok(empty) if empty.is_empty() => ExitCode::SUCCESS,
        Ok(empty) => {
            eprintln!("without data:\n{}", empty.join("\n"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns the queries that give nothing.
async fn check(dir: &Path, options: &Options) -> Result<Vec<String>, String> {
    let mut scene = Scene::start(dir, "dashboard", FACTOR).await?;
    let from = now();
    load::run(&mut scene, Duration::from_secs(options.seconds)).await?;
    let (to, panels) = (now(), panels(RATE_INTERVAL));
    let mut empty = Vec::new();
    for panel in &panels {
        for query in &panel.queries {
            match scene.prometheus.count(&query.text).await? {
                0 => empty.push(format!("{}: {}", panel.title, query.text)),
                series => println!("{:>3} series  {}", series, query.text),
            }
        }
        draw(&scene.prometheus, panel, (from, to), &Plots(options.plots.clone())).await?;
    }
    let queries: usize = panels.iter().map(|panel| panel.queries.len()).sum();
    println!("{} panels, {queries} queries, {} without data", panels.len(), empty.len());
    Ok(empty)
}

async fn draw(prometheus: &Prometheus, panel: &Panel, period: (f64, f64), plots: &Plots) -> Result<(), String> {
    let mut lines = Vec::new();
    for query in &panel.queries {
        for series in prometheus.range(&query.text, period, STEP).await? {
            let points: Vec<(f64, f64)> = series.points.iter().map(|(at, value)| (at - period.0, *value)).collect();
            if !points.is_empty() && lines.len() < MOST {
                lines.push(Line::new(query.name(&series), points));
            }
        }
    }
    if lines.is_empty() {
        return Ok(());
    }
    let mark = panel.mark.map(|mark| ("objective or bound of an alert", mark));
    plots.lines(&panel.slug(), &Axes { title: &panel.title, x: "s", y: panel.unit(), mark }, &lines)
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
