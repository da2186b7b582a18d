//! `[circuit]`, `[reconcile]`, `[operations]`, `[telemetry]` and `[shutdown]`.

use std::net::SocketAddr;
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use url::Url;

use super::error::ConfigError;
use super::values::{DAY, HOUR, MS, Values};
use crate::domain::share::Share;

#[derive(Debug, Clone)]
pub struct Circuit {
    pub enabled: bool,
    pub min_failures: u32,
    pub min_duration: Duration,
    pub failure_share: f64,
    pub cooldown: Duration,
    pub max_cooldown: Duration,
    /// An endpoint whose circuit has not been closed for this long is disabled; zero: never.
    pub disable_after: Duration,
}

#[derive(Debug, Clone)]
pub struct Reconcile {
    pub interval: Duration,
    pub grace: Duration,
}

#[derive(Debug, Clone)]
pub struct Operations {
    /// Whose endpoints hear of what happens to those of others.
    pub tenant: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Telemetry {
    /// `None` turns the server off.
    pub listen: Option<SocketAddr>,
    /// The public keys of endpoints are served there, too.
    pub jwks: bool,
    pub log_format: LogFormat,
    pub log_level: String,
    /// Delivered attempts that are logged at `info`.
    pub log_delivered: Share,
    /// Endpoints with metrics of their own, which the leading relay exports.
    pub top_endpoints: u32,
    /// The collector's base URL; `None`: no spans.
    pub otlp_endpoint: Option<String>,
    /// Traces that begin here.
    pub trace_share: Share,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Human,
    Json,
}

#[derive(Debug, Clone)]
pub struct Shutdown {
    pub grace: Duration,
}

impl Circuit {
    pub(super) fn read(values: &Values) -> Result<Circuit, ConfigError> {
        Ok(Circuit {
            enabled: values.flag("circuit.enabled")?,
            min_failures: values.integer("circuit.min_failures", 1..=100_000)?,
            min_duration: values.duration("circuit.min_duration", Duration::ZERO..=HOUR)?,
            failure_share: values.ratio("circuit.failure_share", 0.01..=1.0)?,
            cooldown: values.duration("circuit.cooldown", 100 * MS..=DAY)?,
            max_cooldown: values.duration("circuit.max_cooldown", 100 * MS..=DAY)?,
            disable_after: values.duration("circuit.disable_after", Duration::ZERO..=365 * DAY)?,
        })
    }
}

impl Reconcile {
    pub(super) fn read(values: &Values) -> Result<Reconcile, ConfigError> {
        Ok(Reconcile {
            interval: values.duration("reconcile.interval", 100 * MS..=HOUR)?,
            grace: values.duration("reconcile.grace", Duration::ZERO..=HOUR)?,
        })
    }
}

impl Operations {
    pub(super) fn read(values: &Values) -> Result<Operations, ConfigError> {
        let key = "operations.tenant";
        let tenant = values.text(key)?;
        let length = tenant.chars().count();
        if length > 128 || tenant.contains('\0') {
            return Err(values.invalid(key, format!("has {length} characters; use the name of a tenant, of 1 to 128")));
        }
        Ok(Operations { tenant: Some(tenant.to_owned()).filter(|tenant| !tenant.is_empty()) })
    }
}

impl Telemetry {
    pub(super) fn read(values: &Values) -> Result<Telemetry, ConfigError> {
        let formats = [("human", LogFormat::Human), ("json", LogFormat::Json)];
        let (listen, jwks) = (listen(values)?, values.flag("telemetry.jwks")?);
        if jwks && listen.is_none() {
            let problem = "is on, and telemetry.listen is \"\"; set an address, or turn it off";
            return Err(values.invalid("telemetry.jwks", problem));
        }
        Ok(Telemetry {
            listen,
            jwks,
            log_format: values.choice("telemetry.log_format", &formats)?,
            log_level: log_level(values)?,
            log_delivered: Share::new(values.ratio("telemetry.log_delivered", 0.0..=1.0)?),
            top_endpoints: values.integer("telemetry.top_endpoints", 0..=50)?,
            otlp_endpoint: otlp_endpoint(values)?,
            trace_share: Share::new(values.ratio("telemetry.trace_ratio", 0.0..=1.0)?),
        })
    }
}

fn listen(values: &Values) -> Result<Option<SocketAddr>, ConfigError> {
    let key = "telemetry.listen";
    let text = values.text(key)?;
    if text.is_empty() {
        return Ok(None);
    }
    let problem = "is not an address and a port; write it like \"127.0.0.1:9464\", or \"\" for no server";
    text.parse().map(Some).map_err(|_| values.invalid(key, problem))
}

/// No message repeats it: it may hold a token.
fn otlp_endpoint(values: &Values) -> Result<Option<String>, ConfigError> {
    let key = "telemetry.otlp_endpoint";
    let text = values.text(key)?;
    if text.is_empty() {
        return Ok(None);
    }
    if !cfg!(feature = "otel") {
        let problem = "is set, and this program was built without traces; build it with the feature otel, or set \"\"";
        return Err(values.invalid(key, problem));
    }
    let has_login = |url: &Url| !url.username().is_empty() || url.password().is_some();
    let is_base = |url: &Url| ["http", "https"].contains(&url.scheme()) && url.query().is_none() && !has_login(url);
    if Url::parse(text).is_ok_and(|url| is_base(&url)) {
        return Ok(Some(text.to_owned()));
    }
    let problem = "is not the URL of a collector; write it like \"http://localhost:4318\", without /v1/traces and without a \
                   login (OTEL_EXPORTER_OTLP_HEADERS is for that)";
    Err(values.invalid(key, problem))
}

/// A word that is no level would be taken for the name of a target, and everything else be silent.
fn log_level(values: &Values) -> Result<String, ConfigError> {
    let key = "telemetry.log_level";
    let text = values.text(key)?;
    let is_level = |word: &str| !word.is_empty() && word.parse::<LevelFilter>().is_ok();
    let names_targets = |part: &str| part.contains(['=', '[']);
    let parts_are_right = text.split(',').map(str::trim).all(|part| names_targets(part) || is_level(part));
    if parts_are_right && EnvFilter::try_new(text).is_ok() {
        return Ok(text.to_owned());
    }
    let problem = format!(
        "is not a filter ('{text}'); use error, warn, info, debug or trace, or targets such as \"info,posthaste::relay=debug\""
    );
    Err(values.invalid(key, problem))
}

impl Shutdown {
    pub(super) fn read(values: &Values) -> Result<Shutdown, ConfigError> {
        Ok(Shutdown { grace: values.duration("shutdown.grace", Duration::ZERO..=HOUR)? })
    }
}
