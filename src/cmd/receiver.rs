//! `receiver`: a scriptable test receiver that verifies signatures.

use super::failure::{Failure, Outcome};
use super::output;
use crate::cli::ReceiverArgs;
use crate::lifecycle::{EXIT_FORCED, Shutdown, signals};
use crate::receiver::server::Server;
use crate::receiver::settings::Settings;
use crate::telemetry::readiness::Readiness;
use crate::telemetry::server::StartError;
use crate::telemetry::{self, logging, metrics};

pub async fn run(args: ReceiverArgs) -> Outcome {
    logging::init(false, if args.quiet { "warn" } else { "info" })
        .map_err(|error| Failure::Failed(error.to_string()))?;
    let behaviour = args.behaviour.parse().map_err(|error| Failure::Usage(format!("{error}")))?;
    let settings = Settings {
        secrets: args.secrets,
        behaviour,
        max_ids: args.max_ids as usize,
        quiet: args.quiet,
        on_verification: Some(metrics::receiver_verification),
        ..Settings::default()
    };
    let server = Server::bind(args.listen, settings)
        .await
        .map_err(|error| Failure::Usage(format!("listen: cannot listen on {}: {error}", args.listen)))?;
    let telemetry = telemetry::server::start(args.metrics, Readiness::new(&[]), axum::Router::new()).await;
    let telemetry = telemetry.map_err(|error| match error {
        StartError::Listen(_) => Failure::Usage(format!("metrics: {error}")),
        StartError::Recorder(_) => Failure::Failed(error.to_string()),
    })?;
    let shutdown = Shutdown::new();
    let signals = signals().map_err(|error| Failure::Failed(error.to_string()))?;
    shutdown.on_signals(signals, || std::process::exit(EXIT_FORCED));
    let handle = server.handle();
    output::line(&format!("listening on http://{}", handle.local_addr()))?;
    server.serve(async move { shutdown.asked().await }).await;
    if let Some(telemetry) = telemetry {
        telemetry.stop().await;
    }
    output::json(&handle.stats())
}
