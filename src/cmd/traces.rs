//! Traces, from the configuration to their exporter.

use super::failure::Failure;
use crate::config::Config;

/// The exporter of this process, if there is one.
pub struct Traces(#[cfg(feature = "otel")] Option<Exporting>);

#[cfg(feature = "otel")]
struct Exporting {
    task: tokio::task::JoinHandle<()>,
    over: tokio_util::sync::CancellationToken,
}

#[cfg(feature = "otel")]
impl Traces {
    pub fn start(config: &Config) -> Result<Traces, Failure> {
        use crate::http::collector::Collector;
        use crate::telemetry::otlp::Export;
        use crate::telemetry::spans;

        let Some(endpoint) = &config.telemetry.otlp_endpoint else { return Ok(Traces(None)) };
        let agent = concat!("posthaste/", env!("CARGO_PKG_VERSION"));
        let collector = Collector::new(agent).map_err(|error| Failure::Failed(error.to_string()))?;
        let export = Export::new(endpoint, collector)
            .map_err(|error| Failure::Usage(format!("telemetry.otlp_endpoint: traces cannot be exported: {error}")))?;
        let over = tokio_util::sync::CancellationToken::new();
        let task = tokio::spawn(export.run(spans::start(config.telemetry.trace_share), over.clone()));
        tracing::info!("traces are exported by OTLP");
        Ok(Traces(Some(Exporting { task, over })))
    }

    /// Exports what is left, within a moment.
    pub async fn finish(self) {
        let Traces(Some(Exporting { task, over })) = self else { return };
        over.cancel();
        // A panic of the exporter has cost spans, which were counted.
        let _ = task.await;
    }
}

#[cfg(not(feature = "otel"))]
impl Traces {
    /// A configuration that asks for traces was refused.
    pub fn start(_config: &Config) -> Result<Traces, Failure> {
        Ok(Traces())
    }

    pub async fn finish(self) {}
}
