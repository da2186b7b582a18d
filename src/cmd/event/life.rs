//! The life of one delivery in the order of time. Pure: rows in, lines out.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

use super::super::output::{plain, time};
use super::waits::Waits;
use crate::store::attempts::Attempt;
use crate::store::deliveries::Listed;

/// Characters of an answer that are shown; `--json` has all that was kept.
const ANSWER: usize = 300;
/// Headers of an answer that say what the receiver wants.
const TELLING: [&str; 2] = ["retry-after", "location"];

/// What of the whole event belongs to the life of each delivery.
#[derive(Debug, Clone, Copy)]
pub struct Origin {
    pub emitted: DateTime<Utc>,
    pub claimed: Option<DateTime<Utc>>,
    pub now: DateTime<Utc>,
}

pub struct Life<'a> {
    pub delivery: &'a Listed,
    /// Of this delivery, in order.
    pub attempts: Vec<&'a Attempt>,
    pub waits: Option<Waits>,
    /// The name of its policy, and the budget in force.
    pub policy: &'a str,
    pub budget: Option<u32>,
}

impl Life<'_> {
    fn made(&self) -> i32 {
        self.delivery.attempts - self.delivery.base_attempts
    }

    /// Attempts that are still allowed, if each of them fails.
    pub fn attempts_left(&self) -> i32 {
        if self.waits.is_none() {
            return 0;
        }
        let budget = self
            .budget
            .and_then(|budget| i32::try_from(budget).ok())
            .map_or(i32::MAX, |budget| budget.saturating_add(1));
        // A budget that was lowered meanwhile counts once the attempt that is under way has failed.
        (self.delivery.max_attempts.min(budget) - self.made()).max(1)
    }

    /// The lines for people. Whatever somebody else wrote is shown with its control characters escaped.
    pub fn lines(&self, origin: &Origin) -> Vec<String> {
        let head = format!("endpoint {}: {}", self.delivery.endpoint_id, self.title());
        let limits = format!("  {}", plain(&self.limits()));
        let waits = self.waits.iter().map(|waits| format!("  waits for {}", plain(&until(waits, origin.now))));
        [vec![head], self.course(origin), waits.collect(), vec![limits]].concat()
    }

    fn title(&self) -> String {
        let before = match self.delivery.base_attempts {
            0 => String::new(),
            before => format!(" (and {before} before it was sent again)"),
        };
        format!("{}, {} of {} attempts made{before}", self.delivery.status, self.made(), self.delivery.max_attempts)
    }

    fn course(&self, origin: &Origin) -> Vec<String> {
        let mut lines = vec![line(origin, origin.emitted, "emitted")];
        lines.extend(origin.claimed.map(|claimed| line(origin, claimed, "claimed by a relay")));
        if origin.claimed.is_some_and(|claimed| self.delivery.created_at - claimed > TimeDelta::milliseconds(1)) {
            lines.push(line(origin, self.delivery.created_at, "made by a replay: the endpoint had missed the event"));
        }
        let base = self.delivery.base_attempts;
        let (before, since) = self.attempts.split_at(self.attempts.partition_point(|made| made.attempt <= base));
        lines.extend(before.iter().flat_map(|attempt| told(origin, attempt)));
        if base > 0 {
            // When that was is not kept; the times around it tell.
            lines.push(format!("{:39}sent again, with a fresh set of attempts", ""));
        }
        lines.extend(since.iter().flat_map(|attempt| told(origin, attempt)));
        if self.delivery.status == "dead" {
            let reason = self.delivery.dead_reason.as_deref().unwrap_or("of unknown reason");
            lines.push(line(origin, self.delivery.updated_at, &format!("dead letter: {reason}")));
        }
        lines
    }

    /// Both limits, whichever is the lower one.
    fn limits(&self) -> String {
        let ceiling = format!("at most {} attempts, fixed when the event was claimed", self.delivery.max_attempts);
        let budget = match self.budget {
            Some(budget) => format!("budget of policy {}: {budget} retries", self.policy),
            None => format!("policy {} has no budget", self.policy),
        };
        match self.attempts_left() {
            0 => format!("{ceiling}; {budget}"),
            left => format!("{ceiling}; {budget}; {left} left"),
        }
    }
}

fn line(origin: &Origin, at: DateTime<Utc>, what: &str) -> String {
    format!("  {}  {:>9}  {}", time(at), span(at - origin.emitted), plain(what))
}

/// One attempt, and below it what was answered.
fn told(origin: &Origin, attempt: &Attempt) -> Vec<String> {
    let below = answered(attempt).into_iter().map(|text| format!("{:40}{}", "", plain(&text)));
    [line(origin, attempt.started_at, &tried(attempt))].into_iter().chain(below).collect()
}

/// One attempt in words.
fn tried(attempt: &Attempt) -> String {
    let status = || attempt.status_code.map_or("no answer".to_owned(), |code| format!("status {code}"));
    let result = attempt.error.clone().unwrap_or_else(status);
    let then = match (attempt.outcome.as_str(), attempt.next_attempt_at) {
        ("delivered", _) => ", delivered".to_owned(),
        ("dead", _) => ", the last one".to_owned(),
        (_, Some(next)) => format!(", the next one at {}", time(next)),
        _ => String::new(),
    };
    let worker = attempt.worker.as_ref().map(|worker| format!(" (worker {worker})")).unwrap_or_default();
    format!("attempt {}: {result} after {} ms{then}{worker}", attempt.attempt, attempt.duration_ms)
}

/// What the receiver said: of its headers what it wants, and the beginning of the body.
fn answered(attempt: &Attempt) -> Vec<String> {
    let header = |name: &str| Some(format!("{name}: {}", cut(&header(attempt.response_headers.as_ref()?, name)?)));
    let body = attempt.response_body.as_ref().filter(|body| !body.is_empty());
    let body = body.map(|body| format!("answer: {}", cut(body)));
    TELLING.iter().filter_map(|name| header(name)).chain(body).collect()
}

/// A header as it is stored: one value, or several.
fn header(headers: &Value, name: &str) -> Option<String> {
    match headers.get(name)? {
        Value::String(value) => Some(value.clone()),
        other => Some(other.to_string()),
    }
}

fn cut(text: &str) -> String {
    let characters = text.chars().count();
    if characters <= ANSWER {
        return text.to_owned();
    }
    let begin: String = text.chars().take(ANSWER).collect();
    format!("{begin}... ({characters} characters were kept; --json shows them)")
}

fn until(waits: &Waits, now: DateTime<Utc>) -> String {
    match waits.until {
        Some(until) if until > now => format!("{}, until {} (in {})", waits.what, time(until), long(until - now)),
        Some(until) => format!("{}, since {}", waits.what, time(until)),
        None => waits.what.clone(),
    }
}

/// A distance from the beginning, to the millisecond while that matters.
fn span(distance: TimeDelta) -> String {
    let ms = distance.num_milliseconds();
    match ms {
        0 => String::new(),
        1..=9_999 => format!("+{ms} ms"),
        10_000.. => format!("+{}", long(distance)),
        // Clocks of several machines wrote these times.
        _ => format!("{ms} ms"),
    }
}

/// Whole seconds, in two units at most.
fn long(distance: TimeDelta) -> String {
    let seconds = distance.num_seconds().max(0);
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s}s"),
        (0, h, m, _) => format!("{h}h {m}m"),
        (d, h, _, _) => format!("{d}d {h}h"),
    }
}

#[cfg(test)]
#[path = "life_tests.rs"]
mod tests;
