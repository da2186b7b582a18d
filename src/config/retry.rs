//! `[retry]` and its named policies, as the domain's ready value.

use std::collections::BTreeMap;

use figment::value::Value;

use super::error::ConfigError;
use super::values::{DAY, Values, duration};
use crate::domain::backoff::{MAX_DELAY_QUEUES, MAX_JITTER_BPS, Policies, Policy, PolicyError, Settings};

pub fn read(values: &Values, warnings: &mut Vec<String>) -> Result<Policies, ConfigError> {
    let default = Section { values, name: None }.policy(warnings)?;
    let mut named = BTreeMap::new();
    for name in values.names("retry.policies") {
        let policy = Section { values, name: Some(&name) }.policy(warnings)?;
        named.insert(name, policy);
    }
    warnings.sort();
    warnings.dedup();
    Ok(Policies::new(default, named)?)
}

/// `[retry]`, or a named policy on top of it.
struct Section<'a> {
    values: &'a Values,
    name: Option<&'a str>,
}

impl Section<'_> {
    fn policy(&self, warnings: &mut Vec<String>) -> Result<Policy, ConfigError> {
        let settings = self.settings(warnings)?;
        let most = MAX_DELAY_QUEUES / settings.schedule.len().max(1);
        if settings.slots as usize > most && most > 0 {
            warnings.push(format!(
                "{}: {} slots for each of {} delays are more than {MAX_DELAY_QUEUES} queues; {most} slots are used",
                self.key("slots"),
                settings.slots,
                settings.schedule.len()
            ));
        }
        // One point of an evenly spaced window is its middle.
        if settings.jitter_bps > 0 && (settings.slots == 1 || most == 1) {
            warnings.push(format!(
                "{}: with 1 slot for each delay there is no jitter, and every retry comes at its base time, whatever {} is; use 2 or more slots, or set {} to 0",
                self.key("slots"),
                self.key("jitter_bps"),
                self.key("jitter_bps"),
            ));
        }
        Policy::new(self.name.unwrap_or("default"), &settings).map_err(|error| self.refused(&error))
    }

    fn settings(&self, warnings: &mut Vec<String>) -> Result<Settings, ConfigError> {
        let values = self.values;
        Ok(Settings {
            schedule: values.list(&self.key("schedule"), delay)?,
            jitter_bps: self.jitter_bps(warnings)?,
            slots: values.integer(&self.key("slots"), 1..=MAX_DELAY_QUEUES as i128)?,
            budget: values.integer(&self.key("budget"), 0..=1000)?,
            permanent_status_codes: values
                .list(&self.key("permanent_status_codes"), status_code)?
                .into_iter()
                .collect(),
            max_retry_after: values.duration(&self.key("max_retry_after"), std::time::Duration::ZERO..=30 * DAY)?,
            max_pause: values.duration(&self.key("max_pause"), std::time::Duration::ZERO..=30 * DAY)?,
        })
    }

    /// The key that holds the value: the policy's own, or the one of `[retry]` that it inherits.
    fn key(&self, key: &str) -> String {
        let own = self.name.map(|name| format!("retry.policies.{name}.{key}"));
        own.filter(|own| self.values.has(own)).unwrap_or_else(|| format!("retry.{key}"))
    }

    fn jitter_bps(&self, warnings: &mut Vec<String>) -> Result<u32, ConfigError> {
        let key = self.key("jitter_bps");
        let written = self.values.any_integer(&key)?;
        let used = written.clamp(0, MAX_JITTER_BPS.into()) as u32;
        if written != i128::from(used) {
            warnings.push(format!("{key}: {written} is outside 0 to {MAX_JITTER_BPS}; {used} is used"));
        }
        Ok(used)
    }

    fn refused(&self, error: &PolicyError) -> ConfigError {
        let text = error.to_string();
        let (key, problem) = text.split_once(": ").unwrap_or(("schedule", &text));
        let ConfigError::Invalid { problem, origin, .. } = self.values.invalid(&self.key(key), problem) else {
            unreachable!("invalid() makes Invalid");
        };
        // A policy may be impossible only through the mixture of its own and inherited keys: name the policy.
        let section = self.name.map_or("retry".to_owned(), |name| format!("retry.policies.{name}"));
        ConfigError::Invalid { key: format!("{section}.{key}"), problem, origin }
    }
}

fn delay(item: &Value) -> Result<std::time::Duration, String> {
    match item {
        Value::String(_, text) => duration(text).map_err(|problem| format!("({problem})")),
        _ => Err("is not a duration; write it in quotes with a unit, like \"30s\"".into()),
    }
}

fn status_code(item: &Value) -> Result<u16, String> {
    let code = item.to_i128().and_then(|code| u16::try_from(code).ok());
    code.ok_or_else(|| "is not an HTTP status code (300 to 599)".into())
}
