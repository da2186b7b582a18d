//! Names in the environment that are no settings.

use std::path::Path;

use super::*;

#[test]
fn a_misspelt_variable_is_refused_with_the_nearest_setting() {
    let cases = [
        ("POSTHASTE_RETRY_SCHEDULE", "POSTHASTE_RETRY__SCHEDULE"),
        ("POSTHASTE_BROKER_PREFIX", "POSTHASTE_BROKER__PREFIX"),
        ("POSTHASTE_WORKER_CONCURENCY", "POSTHASTE_WORKER__CONCURRENCY"),
        ("POSTHASTE_DATABASE_URL", "POSTHASTE_DATABASE__URL"),
        ("POSTHASTE_LOG_LEVEL", "POSTHASTE_TELEMETRY__LOG_LEVEL"),
    ];
    for (name, nearest) in cases {
        let said = refused(&[(name, "hunter2")]);
        assert!(said.starts_with(&format!("{name}: is no setting; did you mean {nearest}?")), "{said}");
        assert!(!said.contains("hunter2"));
    }
    assert!(refused(&[("POSTHASTE_", "x")]).starts_with("POSTHASTE_: is no setting"));
    assert!(refused(&[("POSTHASTE_RECEIVER_SECRETS", "x")]).starts_with("POSTHASTE_RECEIVER_SECRETS: is no setting"));
}

#[test]
fn what_others_set_is_left_to_them() {
    let names = [
        "OTHER__KEY",
        "POSTHASTE",
        "XPOSTHASTE_PREFIX",
        "POSTHASTE_TEST_DATABASE_URL",
        "POSTHASTE_LAB_BINARY",
        "POSTHASTE_RECEIVER_SECRET",
        "POSTHASTE_SERVICE_HOST",
        "POSTHASTE_SERVICE_PORT",
        "POSTHASTE_SERVICE_PORT_METRICS",
        "POSTHASTE_PORT",
        "POSTHASTE_PORT_9464_TCP",
        "POSTHASTE_RELAY_PORT_9464_TCP_ADDR",
        "POSTHASTE_RELAY_SERVICE_HOST",
    ];
    let config = loaded(&names.map(|name| (name, "tcp://10.0.0.1:9464")));
    assert!(config.database.url.is_none() && config.broker.prefix == "posthaste");
    for name in ["POSTHASTE_PORT_HTTP", "POSTHASTE_PORT_9464_TCP_X", "POSTHASTE_PORTS"] {
        assert!(refused(&[(name, "1")]).contains("is no setting"), "{name}");
    }
}

/// Whoever has the variables of our scripts in the environment can still run the program.
#[test]
fn every_name_in_scripts_and_in_the_compose_file_is_known() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scripts = ["scripts", "scripts/lib"].map(|folder| root.join(folder).read_dir().unwrap());
    let files = scripts.into_iter().flatten().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let mut found = 0;
    for path in files.chain([root.join("docker-compose.yml")]) {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            if word.starts_with("POSTHASTE_") && word.len() > "POSTHASTE_".len() && !word.contains("__") {
                found += 1;
                loaded(&[(word, "x")]);
            }
        }
    }
    assert!(found > 20, "{found} names");
}
