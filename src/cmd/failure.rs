//! Why a command did not do what it was asked to.

use std::process::ExitCode;

use thiserror::Error;

use crate::broker::BrokerError;
use crate::cli::EXIT_USAGE;
use crate::config::ConfigError;
use crate::relay::DeclareFailure;
use crate::store::StoreError;

#[derive(Debug, Error)]
pub enum Failure {
    /// The command line or the configuration must be changed first: exit code 64.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Broker(#[from] BrokerError),
    #[error(transparent)]
    Declare(#[from] DeclareFailure),
    #[error("{0}")]
    Failed(String),
}

pub type Outcome = Result<(), Failure>;

impl Failure {
    /// What to do about it, where the text does not say so.
    pub fn advice(&self) -> &'static str {
        match self {
            Failure::Store(error) if error.misses_schema() => {
                "; the schema is not there, or another version's: run `posthaste migrate` first"
            }
            Failure::Store(error) if error.is_denied() => {
                "; `posthaste roles sql` says which role may do this, and grants what is missing after an upgrade"
            }
            _ => "",
        }
    }

    pub fn code(&self) -> ExitCode {
        match self {
            Failure::Usage(_) | Failure::Config(_) => EXIT_USAGE.into(),
            _ => ExitCode::FAILURE,
        }
    }
}
