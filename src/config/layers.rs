//! Where values come from, lowest layer first: reference file, file, well-known variables such as DATABASE_URL, environment,
//! flags.

use std::path::{Path, PathBuf};

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use secrecy::ExposeSecret;

use secrecy::SecretString;

use super::error::ConfigError;
use super::shape;
use super::variables::{self, PREFIX};

/// What the command line says about the configuration.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub file: Option<PathBuf>,
    pub database_url: Option<SecretString>,
    pub amqp_url: Option<SecretString>,
}

pub const REFERENCE: &str = include_str!("../../config/posthaste.toml");
/// Read when no `--config` is given and it exists.
pub const FALLBACK_FILE: &str = "config/posthaste.toml";

/// Everything that a configuration is made from; tests pass their own, so no test depends on the process's environment.
#[derive(Clone, Default)]
pub struct Sources {
    pub overrides: Overrides,
    pub environment: Vec<(String, String)>,
    pub fallback_file: Option<PathBuf>,
}

impl Sources {
    pub fn of_process(overrides: Overrides) -> Sources {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Sources { overrides, environment, fallback_file: Some(FALLBACK_FILE.into()) }
    }
}

/// The values of one source, with the words that name it in a message.
struct Layer {
    origin: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Map::from([(Profile::Default, self.values.clone())]))
    }
}

pub(super) fn merge(sources: &Sources) -> Result<Figment, ConfigError> {
    let reference = reference();
    variables::check(sources.environment.iter().map(|(name, _)| name.as_str()), &reference)?;
    let mut layers: Vec<Layer> = file(sources)?.into_iter().collect();
    layers.extend(well_known(&sources.environment));
    layers.extend(environment(&sources.environment, &reference)?);
    layers.extend(flags(&sources.overrides));
    let mut merged = Figment::from(Toml::string(REFERENCE));
    for layer in layers {
        shape::check(&layer.values, &reference, &layer.origin)?;
        merged = merged.merge(layer);
    }
    Ok(merged)
}

pub(super) fn reference() -> Dict {
    parse(REFERENCE).expect("a test parses the reference file")
}

fn parse(text: &str) -> Result<Dict, String> {
    let mut data = Toml::string(text).data().map_err(|error| error.kind.to_string())?;
    Ok(data.remove(&Profile::Default).unwrap_or_default())
}

fn file(sources: &Sources) -> Result<Option<Layer>, ConfigError> {
    let fallback = sources.fallback_file.as_ref().filter(|path| path.exists());
    let Some(path) = sources.overrides.file.as_ref().or(fallback) else { return Ok(None) };
    let text =
        std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.clone(), source })?;
    let values = parse(&text).map_err(|error| syntax(path, &error))?;
    Ok(Some(Layer { origin: format!("in {}", path.display()), values }))
}

/// TOML's own message quotes the line, which may hold a password; only its first and last line are kept.
fn syntax(path: &Path, text: &str) -> ConfigError {
    let kept: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.contains('|')).collect();
    ConfigError::Syntax { path: path.to_owned(), problem: kept.join(": ") }
}

/// The variables that hosting platforms, and OpenTelemetry's operators, set.
fn well_known(environment: &[(String, String)]) -> Vec<Layer> {
    let known: [(&str, &[&str]); 3] = [
        ("DATABASE_URL", &["database", "url"]),
        ("AMQP_URL", &["broker", "url"]),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &["telemetry", "otlp_endpoint"]),
    ];
    let value = |name: &str| environment.iter().find(|(set, value)| set == name && !value.is_empty());
    let is_off = value("OTEL_SDK_DISABLED").is_some_and(|(_, value)| value.eq_ignore_ascii_case("true"));
    known
        .iter()
        .filter(|(name, _)| !(is_off && name.starts_with("OTEL_")))
        .filter_map(|(name, path)| {
            let (_, value) = value(name)?;
            Some(Layer { origin: format!("from {name}"), values: nest(path, value.as_str().into()) })
        })
        .collect()
}

fn flags(overrides: &Overrides) -> Vec<Layer> {
    let known =
        [("--database-url", "database", &overrides.database_url), ("--amqp-url", "broker", &overrides.amqp_url)];
    known
        .iter()
        .filter_map(|(flag, section, url)| {
            Some(url_layer(format!("from {flag}"), section, url.as_ref()?.expose_secret()))
        })
        .collect()
}

fn url_layer(origin: String, section: &str, url: &str) -> Layer {
    Layer { origin, values: nest(&[section, "url"], url.into()) }
}

/// `POSTHASTE_<SECTION>__<KEY>`; the others have been checked.
fn environment(environment: &[(String, String)], reference: &Dict) -> Result<Vec<Layer>, ConfigError> {
    let mut variables: Vec<_> = environment
        .iter()
        .filter_map(|(name, value)| Some((name, name.strip_prefix(PREFIX).filter(|rest| rest.contains("__"))?, value)))
        .collect();
    variables.sort();
    variables.into_iter().map(|(name, rest, value)| variable(name, &rest.to_lowercase(), value, reference)).collect()
}

/// The type comes from the reference, not from the looks of the value: a prefix `123` is a text.
fn variable(name: &str, path: &str, text: &str, reference: &Dict) -> Result<Layer, ConfigError> {
    let origin = format!("from {name}");
    let path: Vec<&str> = path.split("__").collect();
    let value = match shape::expected(&path, reference) {
        Some(Value::String(..)) => text.into(),
        // What is no TOML stays a text, and the check of the type then says what is expected.
        Some(_) => {
            parse(&format!("value = {text}")).ok().and_then(|mut dict| dict.remove("value")).unwrap_or(text.into())
        }
        None => text.into(),
    };
    Ok(Layer { origin, values: nest(&path, value) })
}

fn nest(path: &[&str], value: Value) -> Dict {
    let (name, rest) = path.split_first().expect("a path has at least one part");
    let value = if rest.is_empty() { value } else { nest(rest, value).into() };
    Dict::from([((*name).to_owned(), value)])
}
