//! `posthaste bench` and `posthaste receiver`.

use std::net::SocketAddr;

use clap::{Args, Subcommand};

use super::output::Output;
use super::parse;
use crate::domain::signature::Secret;

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Emit events at once and time until every delivery is settled, against a receiver of its own.
    Burst(Burst),
}

#[derive(Debug, Args)]
pub struct Burst {
    /// Events to emit.
    #[arg(long, value_name = "N", default_value = "20000", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub events: u32,
    /// Endpoints that each event goes to.
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub endpoints: u32,
    /// Size of a payload, in bytes.
    #[arg(long, value_name = "BYTES", default_value = "1024", value_parser = clap::value_parser!(u32).range(2..=1_048_576))]
    pub payload_bytes: u32,
    /// Connections that emit at the same time.
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub producers: u32,
    #[command(flatten)]
    pub output: Output,
}

#[derive(Debug, Args)]
pub struct ReceiverArgs {
    /// Address to listen on; port 0 is any free port, and is printed.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Where to serve /metrics, with a count of verified signatures [default: nowhere].
    #[arg(long, value_name = "ADDRESS")]
    pub metrics: Option<SocketAddr>,
    /// Secret to verify signatures with; may be repeated. Without one nothing is verified. Other users of the machine can
    /// read the command line, and not the environment.
    #[arg(
        long = "secret",
        value_name = "WHSEC",
        env = "POSTHASTE_RECEIVER_SECRET",
        hide_env_values = true,
        value_parser = parse::secret
    )]
    pub secrets: Vec<Secret>,
    /// How to answer: ok, or a failure to show.
    #[arg(long, value_name = "BEHAVIOUR", default_value = "ok")]
    pub behaviour: String,
    /// Ids remembered to count duplicates.
    #[arg(long, value_name = "N", default_value = "1000000", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub max_ids: u32,
    /// Print no line per request.
    #[arg(long)]
    pub quiet: bool,
}
