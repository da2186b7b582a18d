//! Has every alert fire on a real system, follows the runbook, and waits until it clears. `scripts/incident` runs it.

mod catalogue;
mod causes;
pub mod prometheus;
mod rules;
mod runbook;
pub mod scene;
mod table;
pub mod traffic;

use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::frame::options;
use catalogue::Incident;
use scene::Scene;
use table::Row;

/// Provokes alerts on a system of its own, with a Prometheus that runs the shipped rules, follows the runbook's commands as they
/// are written, and prints when each alert fired and cleared. Exits with 1 where one did not.
#[derive(Debug, Clone, Parser)]
#[command(name = "scripts/incident", bin_name = "scripts/incident", max_term_width = 100)]
struct Options {
    /// What goes wrong; `all` is everything, one after the other.
    #[arg(value_name = "NAME", required = true, value_parser = known)]
    names: Vec<String>,
    /// All durations of the rules and of Prometheus are divided by this; thresholds stay as they are.
    #[arg(long, value_name = "N", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=60))]
    factor: u32,
}

fn known(name: &str) -> Result<String, String> {
    let mut names: Vec<String> = Incident::value_variants().iter().map(|incident| incident.name()).collect();
    names.push("all".to_owned());
    if names.iter().any(|known| known == name) {
        return Ok(name.to_owned());
    }
    Err(format!("there is no such incident; use one of: {}", names.join(", ")))
}

impl Options {
    fn incidents(&self) -> Vec<Incident> {
        let all = self.names.iter().any(|name| name == "all");
        let wanted = |incident: &&Incident| all || self.names.contains(&incident.name());
        Incident::value_variants().iter().filter(wanted).copied().collect()
    }
}

pub async fn run(dir: &Path) -> ExitCode {
    let options: Options = options();
    let incidents = options.incidents();
    let missing = uncovered(&incidents);
    match provoke_all(dir, &incidents, options.factor).await {
        Ok(rows) => {
            println!("{}", table::markdown(&rows, options.factor));
            if options.names.contains(&"all".to_owned()) && !missing.is_empty() {
                eprintln!("no incident provokes {missing:?}");
                return ExitCode::FAILURE;
            }
            if rows.iter().all(Row::is_good) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Alerts that are shipped and that none of these provokes.
fn uncovered(incidents: &[Incident]) -> Vec<&'static str> {
    let provoked = |alert: &&str| incidents.iter().any(|incident| incident.alerts().contains(alert));
    rules::alerts().into_iter().filter(|alert| !provoked(alert)).collect()
}

/// In one system; after a failure the next ones get a fresh one.
async fn provoke_all(dir: &Path, incidents: &[Incident], factor: u32) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    let mut scene: Option<Scene> = None;
    for (number, incident) in incidents.iter().enumerate() {
        let name = incident.name();
        eprintln!("{name}");
        let mut current = match scene.take() {
            Some(scene) => scene,
            None => Scene::start(dir, &format!("incident-{number}"), factor).await?,
        };
        current.calm().await?;
        match incident.provoke(&mut current).await {
            Ok(seen) => {
                let also = current.also_fired(incident.alerts());
                rows.extend(seen.into_iter().map(|seen| Row::seen(*incident, &seen, &also)));
                scene = Some(current);
            }
            Err(error) => {
                eprintln!("{name}: {error}");
                rows.extend(incident.alerts().iter().map(|alert| Row::failed(*incident, alert, &error)));
            }
        }
    }
    Ok(rows)
}
