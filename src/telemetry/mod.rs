//! What operators see: logs, metrics, health.

pub mod logging;
pub mod metrics;
pub mod readiness;
pub mod server;
