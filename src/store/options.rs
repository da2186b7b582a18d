//! How sessions are opened, and what is set in each.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use super::connect::{Found, Servers};
use super::error::{Result, StoreError};
use crate::domain::servers;
use crate::tls::Files;

#[derive(Debug, Clone)]
pub struct Options {
    /// It may list several servers.
    pub url: SecretString,
    pub found: Found,
    pub tls: Files,
    pub max_connections: u32,
    pub connect_timeout: Duration,
    pub statement_timeout: Duration,
    /// How long a statement waits for a row that somebody else has locked.
    pub lock_timeout: Duration,
    /// Shown in `pg_stat_activity`.
    pub application_name: String,
    /// Service sessions plan a statement once, and avoid plans that were good for an empty table only; reports keep the
    /// planner's freedom.
    pub service: bool,
    /// The relay may commit asynchronously: a settlement that is durable makes everything before it durable.
    pub asynchronous_commit: bool,
    /// What is read to be published comes without its payload.
    pub by_reference: bool,
}

impl Options {
    pub(super) fn servers(&self) -> Result<Servers> {
        let listed = servers::listed(self.url.expose_secret()).map_err(StoreError::Url)?;
        let all = listed.each.iter().map(|url| self.connect_options(url)).collect::<Result<Vec<_>>>()?;
        Ok(Servers { all, must_write: listed.must_write, found: self.found.clone() })
    }

    fn connect_options(&self, url: &str) -> Result<PgConnectOptions> {
        let options: PgConnectOptions = url.parse().map_err(|e: sqlx::Error| StoreError::Url(e.to_string()))?;
        let options = encrypted(options, &self.tls);
        let statement_timeout = format!("{}ms", self.statement_timeout.as_millis());
        let mut settings = vec![
            ("statement_timeout", statement_timeout.clone()),
            ("lock_timeout", format!("{}ms", self.lock_timeout.as_millis())),
            ("idle_in_transaction_session_timeout", statement_timeout),
            ("TimeZone", "UTC".to_owned()),
        ];
        if self.service {
            // A peer that is gone without a word is given up within half a minute, by the server's side of TCP too.
            settings.push(("idle_session_timeout", IDLE.to_owned()));
            settings.extend(KEEPALIVE.map(|(name, value)| (name, value.to_owned())));
            settings.push(("enable_seqscan", "off".to_owned()));
            settings.push(("jit", "off".to_owned()));
            // Planning a statement again for each execution costs more than running it.
            settings.push(("plan_cache_mode", "force_generic_plan".to_owned()));
        }
        if self.asynchronous_commit {
            settings.push(("synchronous_commit", "off".to_owned()));
            // Only the claim uses these sessions, and it needs the order of an index everywhere; what is gathered and sorted grows with the outbox.
            settings.push(("enable_bitmapscan", "off".to_owned()));
        }
        if self.by_reference {
            settings.push((PAYLOAD, "reference".to_owned()));
        }
        Ok(options.application_name(&self.application_name).options(settings).disable_statement_logging())
    }
}

/// A setting of ours that a session has where messages carry no payload. Statements ask for it (`due::carried`).
const PAYLOAD: &str = "posthaste.payload";

/// With files of ours the server must prove who it is. The URL may leave the name out of that; a mode that proves nothing was
/// refused with the configuration.
fn encrypted(options: PgConnectOptions, files: &Files) -> PgConnectOptions {
    if files.is_empty() {
        return options;
    }
    let by_authority = matches!(options.get_ssl_mode(), PgSslMode::VerifyCa);
    let mut options = options.ssl_mode(if by_authority { PgSslMode::VerifyCa } else { PgSslMode::VerifyFull });
    if let Some(ca) = &files.ca {
        options = options.ssl_root_cert(ca);
    }
    match &files.own {
        Some(own) => options.ssl_client_cert(&own.cert).ssl_client_key(&own.key),
        None => options,
    }
}

/// The server ends a session that was idle for this long, whatever answers in between for a client that is gone. The pool
/// gives up its own earlier.
const IDLE: &str = "15min";
/// The first three ask a peer that is silent, the last one bounds how long it may leave what was sent unacknowledged.
const KEEPALIVE: [(&str, &str); 4] = [
    ("tcp_keepalives_idle", "10s"),
    ("tcp_keepalives_interval", "5s"),
    ("tcp_keepalives_count", "3"),
    ("tcp_user_timeout", "25s"),
];
