//! `migrate`, `keygen` and `completions`: what comes before anything runs.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::CommandFactory;

use super::failure::Outcome;
use super::{compose, output};
use crate::cli::Cli;
use crate::config::Config;
use crate::store::migrate::{self, Settings};

pub async fn migrate(config: &Config) -> Outcome {
    let options = compose::store_options(config, "posthaste migrate")?;
    let settings = Settings {
        max_payload_bytes: config.delivery.max_payload_bytes.min(i32::MAX as usize) as u32,
        idempotency_ttl: config.retention.idempotency_keys,
        operations_tenant: config.operations.tenant.clone(),
    };
    migrate::run(&options, &settings).await?;
    tracing::info!("the schema is up to date");
    Ok(())
}

pub fn keygen() -> Outcome {
    output::line(&STANDARD.encode(rand::random::<[u8; 32]>()))
}

pub fn completions(shell: clap_complete::Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "posthaste", &mut script);
    output::line(&String::from_utf8_lossy(&script))
}
