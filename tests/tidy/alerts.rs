//! The alert rules: each has what an operator needs, names metrics that exist, and is tested both ways.

use super::docs::has_heading;
use super::source::Tree;

const RULES: &str = include_str!("../../config/prometheus/alerts.yml");
const TESTS: &str = include_str!("../../config/prometheus/alerts_test.yml");
const RUNBOOK: &str = include_str!("../../docs/runbook.md");
const METRICS: &str = include_str!("../../docs/metrics.md");
const CATALOGUE: &str = include_str!("../incident/catalogue.rs");
const CAUSES: [&str; 4] = [
    include_str!("../incident/causes/database.rs"),
    include_str!("../incident/causes/endpoints.rs"),
    include_str!("../incident/causes/processes.rs"),
    include_str!("../incident/causes/servers.rs"),
];

/// Alerts that no incident provokes, and why not.
const NOT_PROVOKED: &[(&str, &str)] = &[];

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

/// Of its section in the runbook.
fn anchor(text: &str) -> Option<&str> {
    text.split("runbook_url: docs/runbook.md#").nth(1)?.lines().next()
}

/// Incidents, as the command calls them, and the alerts that each must raise.
fn provoked() -> Vec<(String, &'static str)> {
    let (_, alerts) = CATALOGUE.split_once("fn alerts(").expect("the alerts of each incident");
    let lines = alerts.lines().filter_map(|line| line.trim().split_once(" => &["));
    let each = lines.flat_map(|(variant, list)| list.split('"').skip(1).step_by(2).map(move |alert| (variant, alert)));
    let word = |c: char| if c.is_uppercase() { format!("-{}", c.to_ascii_lowercase()) } else { c.to_string() };
    let name = |variant: &str| variant.chars().map(word).collect::<String>().trim_start_matches('-').to_owned();
    each.map(|(variant, alert)| (name(variant), alert)).collect()
}

/// The rows of the table of incidents: cells.
fn rows() -> Vec<Vec<&'static str>> {
    let (_, table) = RUNBOOK.split_once("\n## Every alert, provoked\n").expect("the table of incidents");
    let rows = table.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
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
        let anchor = anchor(text).unwrap_or_else(|| panic!("{name} has no runbook_url"));
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

#[test]
fn every_alert_has_an_incident_and_a_row_with_its_times_or_a_reason_why_not() {
    let (provoked, rows) = (provoked(), rows());
    for Alert { name, text } in alerts() {
        let row = rows.iter().any(|row| row[0].trim_matches('`') == name);
        let incident = provoked.iter().any(|(_, alert)| *alert == name);
        if let Some((_, reason)) = NOT_PROVOKED.iter().find(|(alert, _)| *alert == name) {
            assert!(!row && !incident && !reason.is_empty(), "{name} is provoked: row {row}, incident {incident}");
            continue;
        }
        assert!(row && incident, "{name}: row of docs/runbook.md {row}, incident of tests/incident {incident}");
        let follow = format!("follow(\"{}\"", anchor(text).unwrap_or_default());
        assert!(CAUSES.iter().any(|cause| cause.contains(&follow)), "{name}: no incident follows its section");
    }
    for (alert, _) in NOT_PROVOKED {
        assert!(alerts().iter().any(|known| known.name == *alert), "there is no alert {alert}");
    }
}

#[test]
fn the_table_of_incidents_says_what_the_incidents_do() {
    let seconds = |cell: &str| cell.strip_suffix(" s").is_some_and(|number| number.parse::<u32>().is_ok());
    let rows = rows();
    assert_eq!(rows.len(), provoked().len(), "rows and alerts of incidents");
    for row in rows {
        let [alert, incident, fired, commands, repair, cleared, _] = row[..] else { panic!("{row:?}") };
        let (name, cause) = incident.split_once(": ").unwrap_or_default();
        let pair = (name.trim_matches('`').to_owned(), alert.trim_matches('`'));
        assert!(provoked().contains(&pair), "no incident {name} provokes {alert}");
        assert!([cause, repair].iter().all(|text| CATALOGUE.contains(&format!("\"{text}\""))), "{cause}; {repair}");
        assert!(seconds(fired) && seconds(cleared) && commands.parse::<u32>().is_ok(), "{row:?}");
    }
}
