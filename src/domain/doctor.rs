//! What the doctor makes of what was read: for each check a level, a sentence, and what to do about it.

pub mod broker;
pub mod database;
pub mod host;

/// From harmless to not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    Ok,
    /// It could not be found out; the text says why.
    Unknown,
    Warn,
    Fail,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Ok => "ok",
            Level::Unknown => "unknown",
            Level::Warn => "warn",
            Level::Fail => "fail",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Part and check, like `database.version`; the same on every run.
    pub name: &'static str,
    pub level: Level,
    pub says: String,
    /// What to do, unless all is well.
    pub fix: Option<String>,
}

impl Check {
    pub fn ok(name: &'static str, says: impl Into<String>) -> Check {
        Check { name, level: Level::Ok, says: says.into(), fix: None }
    }

    pub fn unknown(name: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { name, level: Level::Unknown, says: says.into(), fix: Some(fix.into()) }
    }

    pub fn warn(name: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { name, level: Level::Warn, says: says.into(), fix: Some(fix.into()) }
    }

    pub fn fail(name: &'static str, says: impl Into<String>, fix: impl Into<String>) -> Check {
        Check { name, level: Level::Fail, says: says.into(), fix: Some(fix.into()) }
    }
}

/// So many and no more are named in one line.
const NAMED: usize = 3;

/// A list as a sentence has it, cut.
fn some(names: &[String]) -> String {
    let shown = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
#[path = "doctor_tests.rs"]
mod tests;
