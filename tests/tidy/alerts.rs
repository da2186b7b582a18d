//! The alert rules: each has what an operator needs, names metrics that exist, and is tested both ways.

use super::docs::has_heading;
use super::source::Tree;

const RULES: &str = include_str!("../../config/prometheus/alerts.yml");
const TESTS: &str = include_str!("../../config/prometheus/alerts_test.yml");
const RUNBOOK: &str = include_str!("../../docs/runbook.md");
const METRICS: &str = include_str!("../../docs/metrics.md");

struct Alert<'a> {
    name: &'a str,
    /// From its name to the next rule.
    text: &'a str,
}

fn alerts() -> Vec<Alert<'static>> {
    let rules = RULES.split("- alert: ").skip(1);
    let alerts: Vec<Alert> = rules.map(|text| Alert { name: text.lines().next().unwrap_or(""), text }).collect();
    assert!(alerts.len() >= 19, "{} alerts", alerts.len());
    alerts
}

/// Names of metrics in a text; those of recording rules have colons.
fn metrics(text: &str) -> impl Iterator<Item = &str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | ':'));
    let names = words.filter(|word| word.starts_with("posthaste_") && !word.contains(':'));
    names.map(|name| ["_bucket", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name))
}

#[test]
fn every_alert_has_a_severity_a_summary_and_a_section_of_the_runbook() {
    let tree = Tree::load();
    for Alert { name, text } in alerts() {
        let page_or_ticket = ["severity: page }", "severity: ticket }"].iter().any(|severity| text.contains(severity));
        assert!(page_or_ticket && text.contains("summary: "), "{name}");
        let anchor = text.split("runbook_url: docs/runbook.md#").nth(1).and_then(|rest| rest.lines().next());
        let anchor = anchor.unwrap_or_else(|| panic!("{name} has no runbook_url"));
        assert!(has_heading(&tree, "docs/runbook.md", anchor), "{name}: docs/runbook.md has no heading #{anchor}");
        assert!(RUNBOOK.contains(&format!("`{name}`")), "docs/runbook.md does not name {name}");
    }
}

#[test]
fn every_alert_is_tested_when_it_fires_and_when_it_does_not() {
    for Alert { name, .. } in alerts() {
        let fires = TESTS.contains(&format!("alertname: {name}\n        exp_alerts:"));
        let is_quiet = TESTS.contains(&format!("alertname: {name} }}"));
        assert!(fires && is_quiet, "{name}: fires {fires}, is quiet {is_quiet}");
    }
}

#[test]
fn rules_and_their_tests_name_metrics_that_exist() {
    for name in [RULES, TESTS, RUNBOOK].into_iter().flat_map(metrics) {
        assert!(METRICS.contains(&format!("| `{name}` |")), "docs/metrics.md has no {name}");
    }
}
