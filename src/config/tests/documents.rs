//! docs/configuration.md holds what the code does.

use std::collections::BTreeMap;

use super::*;

const DOCUMENT: &str = include_str!("../../../docs/configuration.md");

struct Row {
    default: String,
    limits: String,
    variable: String,
}

/// The rows of the tables: | `key` | default | limits | variable | meaning |
fn rows() -> BTreeMap<String, Row> {
    let cell = |text: &str| text.trim().trim_matches('`').to_owned();
    let of_line = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split(" | ").collect();
        let [key, default, limits, variable, _] = cells[..] else { return None };
        let row = Row { default: cell(default), limits: limits.trim().to_owned(), variable: cell(variable) };
        Some((cell(key), row))
    };
    DOCUMENT.lines().filter_map(of_line).collect()
}

#[test]
fn every_key_is_documented_and_every_documented_key_exists() {
    let keys = shape::keys(&reference());
    assert_eq!(rows().into_keys().collect::<Vec<_>>(), keys);
}

#[test]
fn documented_defaults_and_variables_are_the_real_ones() {
    for (key, row) in rows() {
        assert_eq!(row.default, written_default(&key));
        assert_eq!(row.variable, variable(&key));
    }
}

fn variable(key: &str) -> String {
    format!("POSTHASTE_{}", key.replace('.', "__").to_uppercase())
}

/// "`a` to `b`": both bounds are accepted, and what is just beyond them is not.
#[test]
fn documented_limits_are_the_real_ones() {
    let mut checked = 0;
    for (key, row) in rows() {
        let Some((low, high)) =
            row.limits.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')?.split_once("` to `"))
        else {
            continue;
        };
        let variable = variable(&key);
        let try_with = |value: &str| Config::from_sources(&env(&[(variable.as_str(), value)]));
        for bound in [low, high] {
            assert!(try_with(bound).is_ok(), "{key} = {bound}: {}", try_with(bound).unwrap_err());
        }
        for beyond in [beyond(low, -1), beyond(high, 1)].into_iter().flatten() {
            assert!(try_with(&beyond).is_err(), "{key} = {beyond}");
        }
        checked += 1;
    }
    assert!(checked > 20, "only {checked} limits were found");
}

fn beyond(bound: &str, step: i64) -> Option<String> {
    if let Ok(number) = bound.parse::<i64>() {
        return Some((number + step).to_string());
    }
    if let Ok(number) = bound.parse::<f64>() {
        return Some((number + step as f64 * 0.005).to_string());
    }
    let ms = humantime::parse_duration(bound).unwrap().as_millis() as i64 + step;
    (ms >= 0).then(|| format!("{ms}ms"))
}

/// The default as written in the reference file, since a parsed value has lost its spelling.
fn written_default(key: &str) -> String {
    let (section, name) = key.split_once('.').unwrap();
    let mut lines = REFERENCE.lines().skip_while(|line| *line != format!("[{section}]"));
    let line = lines.find(|line| line.starts_with(&format!("{name} = "))).unwrap_or_else(|| panic!("{key}"));
    line.split_once(" = ").unwrap().1.to_owned()
}
