//! Reads one value of the merged configuration and checks it against its limits.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use figment::value::{Dict, Value};
use figment::{Figment, Profile, Provider};

use super::error::ConfigError;

pub const MS: Duration = Duration::from_millis(1);
pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(86_400);

/// The merged layers. Types have been checked before, so a getter of another type than the reference is a bug.
pub struct Values {
    merged: Figment,
    tree: Value,
}

impl Values {
    pub fn new(merged: Figment) -> Values {
        let dict: Dict = merged.data().ok().and_then(|mut data| data.remove(&Profile::Default)).unwrap_or_default();
        Values { merged, tree: dict.into() }
    }

    pub fn has(&self, key: &str) -> bool {
        self.tree.find_ref(key).is_some()
    }

    /// An error about this key, with the place where its value was written.
    pub fn invalid(&self, key: &str, problem: impl Display) -> ConfigError {
        let tag = self.tree.find_ref(key).map(Value::tag);
        let origin = tag.and_then(|tag| self.merged.get_metadata(tag)).map(|from| from.name.to_string());
        // Defaults are valid, so what they are mentioned for is a fault elsewhere.
        let origin = origin.filter(|origin| origin.starts_with("in ") || origin.starts_with("from "));
        ConfigError::Invalid { key: key.to_owned(), problem: problem.to_string(), origin }
    }

    pub fn text(&self, key: &str) -> Result<&str, ConfigError> {
        self.find(key)?.as_str().ok_or_else(|| self.invalid(key, "is not a text"))
    }

    pub fn flag(&self, key: &str) -> Result<bool, ConfigError> {
        self.find(key)?.to_bool().ok_or_else(|| self.invalid(key, "is not true or false"))
    }

    /// A whole number of any size, for a caller that judges it itself.
    pub fn any_integer(&self, key: &str) -> Result<i128, ConfigError> {
        self.find(key)?.to_i128().ok_or_else(|| self.invalid(key, "is not a whole number"))
    }

    pub fn integer<T: TryFrom<i128>>(&self, key: &str, limits: RangeInclusive<i128>) -> Result<T, ConfigError> {
        let number = self.any_integer(key)?;
        let outside = || self.invalid(key, format!("is {number}; use {} to {}", limits.start(), limits.end()));
        if !limits.contains(&number) {
            return Err(outside());
        }
        T::try_from(number).map_err(|_| outside())
    }

    pub fn ratio(&self, key: &str, limits: RangeInclusive<f64>) -> Result<f64, ConfigError> {
        let value = self.find(key)?;
        let number = value.to_f64().or_else(|| value.to_i128().map(|integer| integer as f64));
        match number {
            Some(number) if limits.contains(&number) => Ok(number),
            _ => Err(self.invalid(key, format!("is out of range; use {} to {}", limits.start(), limits.end()))),
        }
    }

    pub fn duration(&self, key: &str, limits: RangeInclusive<Duration>) -> Result<Duration, ConfigError> {
        let duration = duration(self.text(key)?).map_err(|problem| self.invalid(key, problem))?;
        if limits.contains(&duration) {
            return Ok(duration);
        }
        let shown = |duration: &Duration| humantime::format_duration(*duration).to_string();
        let problem = format!("is {}; use {} to {}", shown(&duration), shown(limits.start()), shown(limits.end()));
        Err(self.invalid(key, problem))
    }

    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Result<T, ConfigError> {
        let text = self.text(key)?;
        let names: Vec<String> = choices.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, choice)| *choice);
        found.ok_or_else(|| self.invalid(key, format!("is '{text}'; use {}", names.join(" or "))))
    }

    /// Parses every item of a list; a problem names the item by its place, counted from 1.
    pub fn list<T>(&self, key: &str, parse: impl Fn(&Value) -> Result<T, String>) -> Result<Vec<T>, ConfigError> {
        let items = self.find(key)?.as_array().ok_or_else(|| self.invalid(key, "is not a list"))?;
        let parse =
            |(index, item)| parse(item).map_err(|problem| self.invalid(key, format!("item {} {problem}", index + 1)));
        items.iter().enumerate().map(parse).collect()
    }

    /// The names of the sections below a key.
    pub fn names(&self, key: &str) -> Vec<String> {
        let below = self.tree.find_ref(key).and_then(Value::as_dict);
        below.into_iter().flat_map(Dict::keys).cloned().collect()
    }

    fn find(&self, key: &str) -> Result<&Value, ConfigError> {
        self.tree.find_ref(key).ok_or_else(|| self.invalid(key, "has no default"))
    }
}

/// A duration with its unit. A bare number is refused: it would be read as seconds by one and as milliseconds by another.
pub fn duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return Err(format!("'{text}' has no unit; write \"{text}s\", or with ms, m, h or d"));
    }
    humantime::parse_duration(text)
        .map_err(|_| format!("'{text}' is not a duration; write it like \"250ms\", \"30s\", \"2m\", \"1h\" or \"7d\""))
}
