//! `[retention]`.

use std::time::Duration;

use super::error::ConfigError;
use super::values::{DAY, SECOND, Values};
use crate::domain::backoff::Policies;
use crate::domain::retention::{Rule, Unfinished};

#[derive(Debug, Clone)]
pub struct Retention {
    pub days: u32,
    /// What becomes of deliveries that are unfinished when their day ends.
    pub unfinished: Unfinished,
    /// A day in which something was ended is kept for this long after it.
    pub grace: Duration,
    pub idempotency_keys: Duration,
}

impl Retention {
    pub(super) fn read(values: &Values) -> Result<Retention, ConfigError> {
        let choices = [("expire", Unfinished::Expire), ("keep", Unfinished::Keep)];
        Ok(Retention {
            days: values.integer("retention.days", 1..=3650)?,
            unfinished: values.choice("retention.unfinished", &choices)?,
            grace: values.duration("retention.grace", Duration::ZERO..=30 * DAY)?,
            idempotency_keys: values.duration("retention.idempotency_keys", SECOND..=365 * DAY)?,
        })
    }

    /// What would end before its time.
    pub(super) fn warn(&self, retry: &Policies, (timeout, held_ttl): (Duration, Duration), warnings: &mut Vec<String>) {
        let (kept, days) = (self.days * DAY, self.days);
        if self.unfinished == Unfinished::Keep {
            return;
        }
        for policy in std::iter::once(retry.default_policy()).chain(retry.named()) {
            if policy.worst_case(timeout) > kept {
                warnings.push(format!(
                    "retention.days: {days} is less than the retry policy '{}' may take; deliveries that are waiting then end as expired",
                    policy.name
                ));
            }
        }
        if held_ttl > kept {
            warnings.push(format!(
                "delivery.held_ttl: is longer than retention.days ({days}), which ends what is held at the end of its day"
            ));
        }
    }

    pub fn rule(&self) -> Rule {
        let grace_ms = self.grace.as_millis() as i64;
        Rule { days: self.days, grace_ms, unfinished: self.unfinished }
    }
}
