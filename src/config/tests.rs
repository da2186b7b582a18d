mod documents;
mod policies;
mod precedence;
mod refusals;
mod retention;
mod secrets;
mod trust;
mod variables;

use std::time::Duration;

use proptest::prelude::*;

use super::layers::reference;
use super::*;
use crate::domain::backoff::Policy;

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn env(variables: &[(&str, &str)]) -> Sources {
    let environment = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Sources { environment, ..Sources::default() }
}

fn loaded(variables: &[(&str, &str)]) -> Config {
    Config::from_sources(&env(variables)).unwrap_or_else(|error| panic!("{variables:?}: {error}"))
}

fn refused(variables: &[(&str, &str)]) -> String {
    Config::from_sources(&env(variables)).map(|_| ()).expect_err(&format!("{variables:?}")).to_string()
}

/// A configuration from a file alone.
fn from_file(text: &str) -> Result<Config, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    let overrides = Overrides { file: Some(file.path().to_owned()), ..Overrides::default() };
    let sources = Sources { overrides, ..Sources::default() };
    let shown = file.path().display().to_string();
    Config::from_sources(&sources).map_err(|error| error.to_string().replace(&shown, "FILE"))
}

fn refused_file(text: &str) -> String {
    from_file(text).map(|_| ()).expect_err(text)
}

fn schedule(policy: &Policy) -> Vec<u64> {
    policy.schedule_ms().collect()
}

#[test]
fn without_any_source_the_documented_defaults_apply() {
    let config = loaded(&[]);
    assert_eq!(schedule(config.retry.default_policy()), [30_000, 120_000, 600_000, 3_600_000]);
    assert_eq!(config.retry.delays().len(), 4 * 16);
    assert_eq!((config.worker.capacity.requests, config.worker.capacity.messages), (1440, 1536));
    assert_eq!(config.relay.batch_size, 200);
    assert_eq!(config.delivery.timeout, Duration::from_secs(15));
    assert_eq!(config.broker.prefix, "posthaste");
    assert!(config.circuit.enabled && config.circuit.failure_share == 0.5);
    assert_eq!(config.shutdown.grace, Duration::from_secs(25));
    assert!(config.warnings.is_empty());
}

#[test]
fn the_reference_file_read_as_a_file_changes_nothing() {
    assert_eq!(format!("{:?}", from_file(REFERENCE).unwrap()), format!("{:?}", loaded(&[])));
}

#[test]
fn what_a_command_needs_and_is_not_set_is_named_with_the_way_to_set_it() {
    let config = loaded(&[("DATABASE_URL", ""), ("AMQP_URL", "")]);
    let missing = config.database_url().unwrap_err().to_string();
    assert!(missing.starts_with("database.url: is not set") && missing.contains("DATABASE_URL"), "{missing}");
    assert!(config.amqp_url().unwrap_err().to_string().contains("AMQP_URL"));
    assert!(config.encryption_keys().unwrap_err().to_string().contains("posthaste keygen"));
}

#[test]
fn the_collector_may_be_named_as_opentelemetry_does() {
    const NAMED: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318");
    let endpoint = |variables: &[(&str, &str)]| loaded(variables).telemetry.otlp_endpoint;
    assert_eq!(endpoint(&[]), None);
    assert_eq!(endpoint(&[NAMED]).as_deref(), Some("http://collector:4318"));
    assert_eq!(endpoint(&[NAMED, ("OTEL_SDK_DISABLED", "true")]), None);
    assert_eq!(endpoint(&[NAMED, ("POSTHASTE_TELEMETRY__OTLP_ENDPOINT", "")]), None, "ours wins");
    assert!(refused(&[(NAMED.0, "collector")]).contains("from OTEL_EXPORTER_OTLP_ENDPOINT"));
}

proptest! {
    /// Whatever is in a variable or a file, loading answers: it never panics, and a refusal names the key.
    #[test]
    fn no_value_of_any_key_breaks_the_loader(index in 0usize..64, value in "\\PC{0,24}") {
        let keys = shape::keys(&reference());
        let key = &keys[index % keys.len()];
        let variable = format!("POSTHASTE_{}", key.replace('.', "__").to_uppercase());
        if let Err(error) = Config::from_sources(&env(&[(variable.as_str(), value.as_str())])) {
            prop_assert!(error.to_string().starts_with(key.as_str()), "{}", error);
        }
    }

    #[test]
    fn a_duration_means_the_same_however_it_is_written(ms in 1u64..600_000) {
        let timeout = |text: &str| loaded(&[("POSTHASTE_DELIVERY__TIMEOUT", text)]).delivery.timeout;
        prop_assert_eq!(timeout(&format!("{ms}ms")), Duration::from_millis(ms));
        prop_assert_eq!(timeout(&humantime::format_duration(Duration::from_millis(ms)).to_string()), Duration::from_millis(ms));
    }

    #[test]
    fn jitter_of_any_size_is_clamped(jitter in any::<i64>()) {
        let config = loaded(&[("POSTHASTE_RETRY__JITTER_BPS", &jitter.to_string())]);
        prop_assert_eq!(config.warnings.is_empty(), (0..=10_000).contains(&jitter));
    }
}
