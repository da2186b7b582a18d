//! Why a statement gave no result.

use std::time::Duration;

use thiserror::Error;

use crate::tls;

#[derive(Debug, Error)]
pub enum StoreError {
    /// The server is away, or the connection broke: nothing is known about the statement.
    #[error("database unavailable: {0}")]
    Unavailable(String),
    #[error("database: no answer within {0:?}")]
    TimedOut(Duration),
    /// The server refused the statement. The text is the server's message without its detail, which may quote a row.
    #[error("database refused: {message} (SQLSTATE {code})")]
    Refused { code: String, message: String },
    /// Locks would stay with a session that somebody else goes on using.
    #[error(
        "database: this connection has no session of its own; relays, requeue and reconcile need a direct connection to PostgreSQL, or a pooler in session mode"
    )]
    SharedSession,
    /// Whatever was asked for by the settings of the session would silently not be so.
    #[error(
        "database: a pooler drops the settings that a session begins with; connect directly to PostgreSQL, or give them to the role (docs/deployment.md)"
    )]
    SettingsDropped,
    #[error("database.url: {0}")]
    Url(String),
    #[error("database: {0}")]
    Other(String),
}

pub type Result<T> = std::result::Result<T, StoreError>;

impl StoreError {
    /// The SQLSTATE, where the server gave one.
    pub fn code(&self) -> Option<&str> {
        match self {
            StoreError::Refused { code, .. } => Some(code),
            _ => None,
        }
    }

    /// This user has no right to it.
    pub fn is_denied(&self) -> bool {
        self.code() == Some("42501")
    }

    /// The data of a statement is at fault, not the state of the server: trying the same again will not help.
    pub fn blames_data(&self) -> bool {
        self.code().is_some_and(|code| code.starts_with("22") || code.starts_with("23") || code.starts_with("54"))
    }

    /// Nobody said that the statement was not done: it may have been committed, and the answer lost.
    pub fn may_be_done(&self) -> bool {
        !matches!(self, StoreError::Refused { .. } | StoreError::Url(_))
    }

    /// Some rows are the reason, and a statement about others would succeed: their data, or somebody has them locked.
    pub fn blames_rows(&self) -> bool {
        self.blames_data() || self.is_locked()
    }

    /// Somebody else has a row locked, for longer than a statement waits.
    pub fn is_locked(&self) -> bool {
        const LOCKED: [&str; 3] = ["55P03", "40P01", "57014"];
        self.code().is_some_and(|code| LOCKED.contains(&code))
    }

    /// The server takes no writes.
    pub fn is_read_only(&self) -> bool {
        self.code() == Some("25006")
    }

    /// Something of the schema is not there, or has another form than this program knows.
    pub fn misses_schema(&self) -> bool {
        let StoreError::Refused { code, message } = self else { return false };
        matches!(code.as_str(), "3F000" | "42P01" | "42703" | "42883") && message.contains("posthaste")
    }

    /// The statement took too long; a smaller one may not.
    pub fn is_time_out(&self) -> bool {
        matches!(self, StoreError::TimedOut(_)) || self.code() == Some("57014")
    }
}

/// The server's own text, and what to set where it asks for a certificate of ours.
fn message(code: &str, text: &str) -> String {
    const INVALID_AUTHORIZATION: &str = "28000";
    let asks_for_certificate = code == INVALID_AUTHORIZATION && text.contains("certificate");
    if asks_for_certificate { format!("{text}; set database.tls_cert and database.tls_key") } else { text.to_owned() }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::Database(error) => {
                let code = error.code().unwrap_or_default().into_owned();
                // Class 57 is the server going away under us (shutdown, crash recovery), class 08 a broken connection.
                if code.starts_with("57P") || code.starts_with("08") || code.starts_with("53") {
                    StoreError::Unavailable(error.message().to_owned())
                } else {
                    StoreError::Refused { message: message(&code, error.message()), code }
                }
            }
            sqlx::Error::Io(error) => {
                StoreError::Unavailable(tls::explain(&error, "database").unwrap_or_else(|| error.to_string()))
            }
            sqlx::Error::Tls(error) => {
                StoreError::Unavailable(tls::explain(&*error, "database").unwrap_or_else(|| error.to_string()))
            }
            sqlx::Error::PoolTimedOut => StoreError::Unavailable("no connection could be made in time".into()),
            sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => StoreError::Unavailable("closed".into()),
            other => StoreError::Other(other.to_string()),
        }
    }
}
