//! `tls_ca`, `tls_cert` and `tls_key` of both servers: whom we trust, and what we show.

use std::path::{Path, PathBuf};

use super::error::ConfigError;
use super::secrets::{self, ServerUrl};
use super::values::Values;
use crate::tls::{self, Files, Own};

/// Modes of `sslmode` in which the server's certificate is looked at.
const VERIFYING: [&str; 2] = ["verify-full", "verify-ca"];

pub fn database(values: &Values) -> Result<Files, ConfigError> {
    let files = files(values, "database")?;
    let Some(url) = secrets::database_url(values)? else { return Ok(files) };
    if let (Some(key), Some(mode)) = (first(&files), url.parameter("sslmode").or(url.parameter("ssl-mode")))
        && !VERIFYING.contains(&mode.as_str())
    {
        let problem = format!("has sslmode={mode}, and database.{key} is set; use verify-full, or leave sslmode out");
        return Err(values.invalid("database.url", problem));
    }
    for (name, check) in IN_URL {
        if let Some(path) = url.parameter(name) {
            check(Path::new(&path)).map_err(|problem| values.invalid("database.url", format!("{name}: {problem}")))?;
        }
    }
    Ok(files)
}

/// What the URL of PostgreSQL may name.
const IN_URL: [(&str, Check); 3] = [("sslrootcert", is_certificate), ("sslcert", is_certificate), ("sslkey", is_key)];

pub fn broker(values: &Values) -> Result<Files, ConfigError> {
    let files = files(values, "broker")?;
    match (first(&files), secrets::amqp_url(values)?.as_ref().map(ServerUrl::scheme)) {
        (Some(key), Some(scheme)) if scheme != "amqps" => {
            let problem = format!("begins with {scheme}://, and broker.{key} is set; use amqps://");
            Err(values.invalid("broker.url", problem))
        }
        _ => Ok(files),
    }
}

fn first(files: &Files) -> Option<&'static str> {
    files.ca.as_ref().map(|_| "tls_ca").or(files.own.as_ref().map(|_| "tls_cert"))
}

fn files(values: &Values, section: &str) -> Result<Files, ConfigError> {
    let key = |name: &str| format!("{section}.{name}");
    let ca = file(values, &key("tls_ca"), is_certificate)?;
    let cert = file(values, &key("tls_cert"), is_certificate)?;
    let private = file(values, &key("tls_key"), is_key)?;
    let alone = |is: &str, is_not: &str| {
        values.invalid(&key(is), format!("is set, and {section}.{is_not} is not; set both or none"))
    };
    let own = match (cert, private) {
        (Some(cert), Some(key)) => Some(Own { cert, key }),
        (None, None) => None,
        (Some(_), None) => return Err(alone("tls_cert", "tls_key")),
        (None, Some(_)) => return Err(alone("tls_key", "tls_cert")),
    };
    Ok(Files { ca, own })
}

type Check = fn(&Path) -> Result<(), String>;

fn is_certificate(path: &Path) -> Result<(), String> {
    tls::certificates(path).map(drop)
}

fn is_key(path: &Path) -> Result<(), String> {
    tls::private_key(path).map(drop)
}

/// It is read again for each connection; here it is seen whether that can ever work.
fn file(values: &Values, key: &str, check: Check) -> Result<Option<PathBuf>, ConfigError> {
    match values.text(key)? {
        "" => Ok(None),
        text => {
            let path = PathBuf::from(text);
            check(&path).map_err(|problem| values.invalid(key, problem))?;
            Ok(Some(path))
        }
    }
}
