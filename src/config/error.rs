//! Why a configuration is refused.

use std::path::PathBuf;

use thiserror::Error;

use crate::domain::backoff::TooManyQueues;

/// The key, its problem, the fix, and where the value was written.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("{key}: unknown key; did you mean {nearest}? ({origin})")]
    UnknownKey { key: String, nearest: String, origin: String },
    #[error(
        "{name}: is no setting; did you mean {nearest}? Names that begin with POSTHASTE_ are settings (docs/configuration.md): correct or unset it"
    )]
    UnknownVariable { name: String, nearest: String },
    #[error("{key}: {problem}{}", origin.as_ref().map(|origin| format!(" ({origin})")).unwrap_or_default())]
    Invalid { key: String, problem: String, origin: Option<String> },
    #[error("{key}: is not set; {fix}")]
    Missing { key: &'static str, fix: &'static str },
    #[error("config file {}: cannot be read: {source}; check the path given with --config", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("config file {}: is not valid TOML: {problem}", path.display())]
    Syntax { path: PathBuf, problem: String },
    #[error(transparent)]
    TooManyQueues(#[from] TooManyQueues),
}
