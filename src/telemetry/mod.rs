//! What operators see: logs, metrics, health.

mod lines;
pub mod logging;
pub mod metrics;
pub mod names;
#[cfg(feature = "otel")]
pub mod otlp;
pub mod readiness;
pub mod server;
pub mod spans;
mod top;
