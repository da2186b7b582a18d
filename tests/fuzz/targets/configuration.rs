//! A file and an environment as anybody may write them -> a configuration, or a refusal that names the key.
//!
//! The input: lines `NAME=value` of the environment, an empty line, the file.
#![cfg_attr(fuzzing, no_main)]

use std::io::Write;

use posthaste::config::{Config, Overrides, Sources};

#[cfg(fuzzing)]
libfuzzer_sys::fuzz_target!(|input: &[u8]| check(input));

pub fn check(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let (environment, file) = text.split_once("\n\n").unwrap_or((&text, ""));
    let environment: Vec<(String, String)> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let mut written = tempfile::NamedTempFile::new().expect("a file");
    written.write_all(file.as_bytes()).expect("a file that can be written");
    let overrides = Overrides { file: Some(written.path().to_owned()), ..Overrides::default() };
    match Config::from_sources(&Sources { overrides, environment, fallback_file: None }) {
        Ok(config) => accepted(&config),
        Err(error) => {
            let message = error.to_string();
            assert!(message.contains(": "), "a key or a file, and its problem: {message}");
        }
    }
}

/// What was accepted is within its limits, and can be printed.
fn accepted(config: &Config) {
    let policies = std::iter::once(config.retry.default_policy()).chain(config.retry.named());
    for policy in policies {
        assert!(policy.max_attempts() > 1 && !policy.worst_case(policy.budget, config.delivery.timeout).is_zero());
    }
    assert!(config.worker.capacity.requests >= 1 && config.relay.batch_size >= 1);
    assert!(!format!("{config:?}").is_empty());
    for url in [config.database_url().ok(), config.amqp_url().ok()].into_iter().flatten() {
        // What cannot be parsed any more holds nothing but the scheme.
        if let Ok(shown) = url::Url::parse(&url.to_string()) {
            assert!(shown.password().is_none_or(|password| password == "***") && shown.query().is_none(), "{shown}");
        }
    }
}
