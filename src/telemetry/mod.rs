//! What operators see: logs, metrics, health.

mod lines;
pub mod logging;
pub mod metrics;
pub mod names;
pub mod readiness;
pub mod server;
