//! Whole runs of the real program on servers of their own: `scripts/chaos` breaks what it stands on and audits what was
//! delivered, `scripts/isolation` measures how well endpoints are kept apart, `scripts/incident` has every alert fire and
//! repairs what is wrong by the runbook, `scripts/dashboard` runs every query of the dashboard, `scripts/bench` measures what an
//! event costs.

#[path = "../bench/mod.rs"]
mod bench;
#[path = "../chaos/mod.rs"]
mod chaos;
#[path = "../dashboard/mod.rs"]
mod dashboard;
mod frame;
#[path = "../incident/mod.rs"]
mod incident;
#[path = "../isolation/mod.rs"]
mod isolation;
#[path = "../kit/mod.rs"]
mod kit;
mod process;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

/// As a shell reports an end by Ctrl-C.
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let (Some(dir), Some(command)) = (std::env::var_os("POSTHASTE_LAB_DIR"), std::env::args().nth(1)) else {
        println!(
            "This is run by scripts/bench, scripts/chaos, scripts/isolation, scripts/incident and scripts/dashboard, which find PostgreSQL and RabbitMQ first."
        );
        return ExitCode::SUCCESS;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        tokio::select! {
            status = run(&command, PathBuf::from(dir)) => status,
            // What was started is killed when it is dropped.
            () = interrupted() => ExitCode::from(INTERRUPTED),
        }
    })
}

async fn run(command: &str, dir: PathBuf) -> ExitCode {
    match command {
        "bench" => bench::run(&dir).await,
        "chaos" => chaos::run(&dir).await,
        // For one of its scenarios.
        "customer" => chaos::serve_customer().await,
        "dashboard" => dashboard::run(&dir).await,
        "incident" => incident::run(&dir).await,
        "isolation" => isolation::run(&dir).await,
        unknown => {
            eprintln!("there is no command {unknown}");
            ExitCode::FAILURE
        }
    }
}

async fn interrupted() {
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// Asks again and again until there is an answer. One question may be lost: a server that dies or starts while it is asked
/// may never answer that one.
async fn wait_for<T>(what: &str, limit: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Result<T, String> {
    const AGAIN: Duration = Duration::from_millis(100);
    const ONE: Duration = Duration::from_secs(5);
    let asking = async || tokio::time::timeout(ONE, ask()).await.ok().flatten();
    kit::ask_until(limit, AGAIN, asking).await.ok_or_else(|| format!("{what}: nothing within {limit:?}"))
}
