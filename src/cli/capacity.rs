//! `posthaste capacity`: what a load needs.

use clap::Args;

use super::output::Output;
use super::parse;

#[derive(Debug, Args)]
pub struct Capacity {
    /// Events in a second that are to be delivered for as long as one likes: the busiest hour, not the mean of a day.
    #[arg(long, value_name = "N", value_parser = |text: &str| parse::figure(text, 0.001, 1e9))]
    pub events_per_second: f64,
    /// Endpoints, of all tenants together.
    #[arg(long, value_name = "N", value_parser = |text: &str| parse::figure(text, 1.0, 1e9))]
    pub endpoints: f64,
    /// Events of a whole day, which fill the disk [default: that rate all day].
    #[arg(long, value_name = "N", value_parser = |text: &str| parse::figure(text, 1.0, 1e14))]
    pub events_per_day: Option<f64>,
    /// Events that a producer commits in one transaction.
    #[arg(long, value_name = "X", default_value = "1", value_parser = |text: &str| parse::figure(text, 1.0, 1e6))]
    pub events_per_transaction: f64,
    /// Endpoints that an event goes to, on average.
    #[arg(long, value_name = "X", default_value = "1", value_parser = |text: &str| parse::figure(text, 0.0, 1e5))]
    pub deliveries_per_event: f64,
    /// Size of a payload, on average.
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = |text: &str| parse::figure(text, 2.0, 16_777_216.0))]
    pub payload_bytes: f64,
    /// Share of the attempts that fail.
    #[arg(long, value_name = "F", default_value = "0.01", value_parser = |text: &str| parse::figure(text, 0.0, 1.0))]
    pub failing_share: f64,
    /// How long receivers take to answer, on average.
    #[arg(long, value_name = "MS", default_value = "100", value_parser = |text: &str| parse::figure(text, 0.0, 600_000.0))]
    pub answer_ms: f64,
    /// Days of history that are kept [default: retention.days of the configuration].
    #[arg(long, value_name = "DAYS", value_parser = |text: &str| parse::figure(text, 1.0, 3650.0))]
    pub retention_days: Option<f64>,
    /// Share of the deliveries that goes to the endpoint that gets most [default: ten times that of the others].
    #[arg(long, value_name = "F", value_parser = |text: &str| parse::figure(text, 0.0, 1.0))]
    pub largest_share: Option<f64>,
    /// Cores of the largest machine for PostgreSQL or RabbitMQ.
    #[arg(long, value_name = "N", default_value = "32", value_parser = |text: &str| parse::figure(text, 1.0, 1024.0))]
    pub machine_cores: f64,
    /// Disk of the largest machine for PostgreSQL.
    #[arg(long, value_name = "TIB", default_value = "16", value_parser = |text: &str| parse::figure(text, 0.01, 1024.0))]
    pub machine_disk_tib: f64,
    /// How fast a core is; 1 are those that the costs were measured on. scripts/bench measures others.
    #[arg(long, value_name = "X", default_value = "1", value_parser = |text: &str| parse::figure(text, 0.1, 100.0))]
    pub core_speed: f64,
    #[command(flatten)]
    pub output: Output,
}
