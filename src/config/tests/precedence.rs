//! Which source wins.

use super::*;

/// Lowest first: file, DATABASE_URL, POSTHASTE_DATABASE__URL, flag.
#[test]
fn each_layer_wins_over_the_ones_below_it() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[database]\nurl = \"postgres://file/db\"\n").unwrap();
    let mut sources = Sources { fallback_file: Some(file.path().to_owned()), ..Sources::default() };
    let url = |sources: &Sources| Config::from_sources(sources).unwrap().database_url().unwrap().expose().to_owned();
    assert_eq!(url(&sources), "postgres://file/db");
    sources.environment.push(("DATABASE_URL".into(), "postgres://plain/db".into()));
    assert_eq!(url(&sources), "postgres://plain/db");
    sources.environment.push(("POSTHASTE_DATABASE__URL".into(), "postgres://prefixed/db".into()));
    assert_eq!(url(&sources), "postgres://prefixed/db");
    sources.overrides.database_url = Some("postgres://flag/db".to_owned().into());
    assert_eq!(url(&sources), "postgres://flag/db");
}

#[test]
fn a_named_file_replaces_the_fallback_and_must_exist() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "[broker]\nprefix = \"fallback\"\n").unwrap();
    let fallback_file = Some(file.path().to_owned());
    let absent = Overrides { file: Some("/nowhere/posthaste.toml".into()), ..Overrides::default() };
    let sources = Sources { overrides: absent, fallback_file, ..Sources::default() };
    let message = Config::from_sources(&sources).unwrap_err().to_string();
    assert!(message.contains("/nowhere/posthaste.toml") && message.contains("--config"), "{message}");
    let without = Sources { fallback_file: Some("/nowhere/posthaste.toml".into()), ..Sources::default() };
    assert_eq!(Config::from_sources(&without).unwrap().broker.prefix, "posthaste");
}

#[test]
fn the_environment_is_read_by_the_type_of_the_key_not_by_the_looks_of_the_value() {
    for prefix in ["123", "1.5", "true", "0x10", "-", "007"] {
        assert_eq!(loaded(&[("POSTHASTE_BROKER__PREFIX", prefix)]).broker.prefix, prefix);
    }
    let config = loaded(&[
        ("POSTHASTE_WORKER__CONCURRENCY", "12"),
        ("POSTHASTE_CIRCUIT__ENABLED", "false"),
        ("POSTHASTE_CIRCUIT__FAILURE_SHARE", "1"),
        ("POSTHASTE_DELIVERY__ALLOW_CIDRS", r#"["10.0.0.0/8", "::1/128"]"#),
        ("POSTHASTE_RETRY__SCHEDULE", r#"["1s","250ms"]"#),
        ("POSTHASTE_RETRY__PERMANENT_STATUS_CODES", "[400, 422]"),
    ]);
    assert_eq!((config.worker.capacity.requests, config.worker.capacity.messages), (12, 13));
    assert!(!config.circuit.enabled && config.circuit.failure_share == 1.0);
    assert_eq!(config.delivery.allow_cidrs.len(), 2);
    assert_eq!(schedule(config.retry.default_policy()), [1000, 250]);
    assert!(config.retry.default_policy().permanent_status_codes.contains(&422));
}
