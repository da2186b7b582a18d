//! The manifests of config/kubernetes and the units of config/systemd say what the program does. `scripts/deployment` checks
//! them against the schemas of others.

use super::source::name_at;

const RELAY: &str = include_str!("../../config/kubernetes/relay.yaml");
const WORKER: &str = include_str!("../../config/kubernetes/worker.yaml");
const MIGRATE: &str = include_str!("../../config/kubernetes/migrate.yaml");
const SETTINGS: &str = include_str!("../../config/kubernetes/settings.yaml");
const NETWORK: &str = include_str!("../../config/kubernetes/network-policy.yaml");
const KEDA: &str = include_str!("../../config/kubernetes/keda.yaml");
const UNITS: [&str; 3] = [
    include_str!("../../config/systemd/posthaste-relay.service"),
    include_str!("../../config/systemd/posthaste-worker.service"),
    include_str!("../../config/systemd/posthaste-migrate.service"),
];
const DEFAULTS: &str = include_str!("../../config/posthaste.toml");
const METRICS: &str = include_str!("../../docs/metrics.md");
const SERVER: &str = include_str!("../../src/telemetry/server.rs");

/// What an orchestrator waits for beyond `shutdown.grace`.
const MORE: u32 = 10;

/// The number after each `key`.
fn numbers<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = u32> + 'a {
    let digits = |rest: &'a str| rest.trim_start().split(|c: char| !c.is_ascii_digit()).next();
    text.split(key).skip(1).filter_map(digits).filter_map(|digits| digits.parse().ok())
}

/// The value of a key of the configuration, by its default.
fn default(section: &str, key: &str) -> Option<&'static str> {
    let section = DEFAULTS.split(&format!("[{section}]\n")).nth(1)?;
    let section = section.split("\n[").next()?;
    section.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))
}

#[test]
fn every_setting_of_a_manifest_or_unit_is_a_key() {
    for text in [RELAY, WORKER, MIGRATE, SETTINGS].into_iter().chain(UNITS) {
        let names = text.match_indices("POSTHASTE_").map(|(at, found)| &text[at + found.len()..]);
        for name in names.map(name_at).filter(|name| name.contains("__")) {
            let (section, key) = name.split_once("__").unwrap();
            let (section, key) = (section.to_lowercase(), key.to_lowercase());
            assert!(default(&section, &key).is_some(), "{section}.{key}");
        }
    }
}

#[test]
fn orchestrators_wait_longer_than_a_process_may_take_to_stop() {
    let grace: u32 = default("shutdown", "grace").unwrap().trim_matches(&['"', 's'][..]).parse().unwrap();
    assert!(SETTINGS.contains(&format!("POSTHASTE_SHUTDOWN__GRACE: {grace}s")));
    for text in [RELAY, WORKER] {
        assert_eq!(numbers(text, "terminationGracePeriodSeconds:").collect::<Vec<_>>(), [grace + MORE]);
    }
    for text in &UNITS[..2] {
        assert_eq!(numbers(text, "TimeoutStopSec=").collect::<Vec<_>>(), [grace + MORE]);
    }
}

#[test]
fn probes_ask_what_the_program_answers() {
    for text in [RELAY, WORKER] {
        for path in ["/healthz", "/readyz"] {
            assert!(text.contains(&format!("httpGet: {{ path: {path}, port: telemetry }}")), "{path}");
            assert!(SERVER.contains(&format!(".route(\"{path}\"")), "{path}");
        }
        assert!(text.contains("{ name: telemetry, containerPort: 9464 }"));
    }
    assert!(SETTINGS.contains("POSTHASTE_TELEMETRY__LISTEN: 0.0.0.0:9464"));
}

#[test]
fn no_container_has_more_than_it_needs() {
    for text in [RELAY, WORKER, MIGRATE] {
        for line in [
            "runAsNonRoot: true",
            "readOnlyRootFilesystem: true",
            "allowPrivilegeEscalation: false",
            "capabilities: { drop: [ALL] }",
            "seccompProfile: { type: RuntimeDefault }",
            "automountServiceAccountToken: false",
            "enableServiceLinks: false",
        ] {
            assert_eq!(text.matches(line).count(), 1, "{line}");
        }
        assert!(text.contains(concat!("image: registry.example.com/posthaste:", env!("CARGO_PKG_VERSION"), "\n")));
        assert!(
            !text.contains("encryption-key") || text.contains("name: posthaste-worker\n"),
            "only workers open secrets"
        );
    }
    let name = concat!("name: posthaste-migrate-", env!("CARGO_PKG_VERSION")).replace('.', "-");
    assert!(MIGRATE.contains(&name), "{name}");
}

#[test]
fn workers_may_reach_the_ports_that_endpoints_may_have() {
    let list = SETTINGS.split("ALLOW_PORTS: \"[").nth(1).and_then(|rest| rest.split(']').next()).unwrap();
    let allowed: Vec<u32> = list.split(", ").filter_map(|port| port.parse().ok()).collect();
    let worker = NETWORK.split("name: posthaste-worker\n").nth(1).unwrap();
    assert_eq!(numbers(worker, "protocol: TCP, port:").collect::<Vec<_>>(), allowed);
}

#[test]
fn workers_are_scaled_by_metrics_that_exist() {
    let query = KEDA.lines().find_map(|line| line.trim_start().strip_prefix("query: ")).unwrap();
    let names =
        query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| word.starts_with("posthaste_"));
    for name in names {
        assert!(METRICS.contains(&format!("| `{name}` |")), "docs/metrics.md has no {name}");
    }
}
