//! What a delivery waits for, and until when. Pure.

use chrono::{DateTime, Utc};
use serde::Serialize;

use crate::store::deliveries::Listed;
use crate::store::pauses::Pause;

/// What has to happen before the next attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waits {
    #[serde(rename = "waits_for")]
    pub what: String,
    /// Null where nobody knows.
    #[serde(rename = "waits_until")]
    pub until: Option<DateTime<Utc>>,
}

/// None: it does not wait, since it has ended.
pub fn waits(delivery: &Listed, pauses: &[&Pause], unconfirmed: bool, now: DateTime<Utc>) -> Option<Waits> {
    let due = delivery.next_attempt_at;
    let is_due = due.is_none_or(|due| due <= now);
    let waits = |what: &str, until| Some(Waits { what: what.to_owned(), until });
    match delivery.status.as_str() {
        "pending" if unconfirmed => waits("the broker, which has not confirmed its message yet", None),
        "pending" => waits("a worker: its message is in a work queue, or just being tried", None),
        "retrying" if is_due => {
            waits("a worker: it is due, and its message is in the queue of retries or just being tried", due)
        }
        "retrying" => waits("its time, in a delay queue of RabbitMQ", due),
        "held" => Some(held(delivery, pauses, due, is_due)),
        _ => None,
    }
}

/// Held in PostgreSQL: for its endpoint, or for its own time.
fn held(delivery: &Listed, pauses: &[&Pause], due: Option<DateTime<Utc>>, is_due: bool) -> Waits {
    if let Some(first) = pauses.first() {
        let reasons: Vec<&str> = pauses.iter().map(|pause| pause.reason.as_str()).collect();
        return Waits {
            what: format!("its endpoint ({})", reasons.join(",")),
            until: first.until.max(due.filter(|_| !is_due)),
        };
    }
    if is_due {
        return Waits {
            what: "the release, which sends on what is due (a relay that runs, and room at the endpoint)".into(),
            until: None,
        };
    }
    let after = delivery.last_error.as_ref().map(|error| format!(", after {error}")).unwrap_or_default();
    Waits { what: format!("its time, in PostgreSQL{after}"), until: due }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_790_000_000 + second, 0).unwrap()
    }

    pub fn delivery(status: &str, due: Option<i64>) -> Listed {
        Listed {
            event_id: Uuid::nil(),
            endpoint_id: Uuid::nil(),
            status: status.into(),
            attempts: 1,
            base_attempts: 0,
            max_attempts: 5,
            next_attempt_at: due.map(at),
            last_status_code: None,
            last_error: Some("status 503".into()),
            dead_reason: None,
            created_at: at(0),
            updated_at: at(0),
            retry_policy: None,
        }
    }

    #[track_caller]
    fn said(delivery: &Listed, pauses: &[&Pause], unconfirmed: bool, part: &str, until: Option<i64>) {
        let waits = waits(delivery, pauses, unconfirmed, at(10)).expect("it waits");
        assert!(waits.what.contains(part) && waits.until == until.map(at), "{waits:?}");
    }

    #[test]
    fn whoever_waits_says_for_what_and_until_when() {
        said(&delivery("pending", Some(0)), &[], true, "the broker", None);
        said(&delivery("pending", Some(0)), &[], false, "a work queue", None);
        said(&delivery("retrying", Some(20)), &[], false, "a delay queue", Some(20));
        said(&delivery("retrying", Some(9)), &[], false, "it is due", Some(9));
        said(&delivery("held", Some(20)), &[], false, "its time, in PostgreSQL, after status 503", Some(20));
        said(&delivery("held", Some(9)), &[], false, "the release", None);
        let pause = |reason: &str, until: Option<i64>| Pause {
            endpoint_id: Uuid::nil(),
            reason: reason.into(),
            since: None,
            until: until.map(at),
        };
        let (disabled, slowed) = (pause("disabled", None), pause("slowed", Some(30)));
        said(&delivery("held", Some(9)), &[&disabled, &slowed], false, "its endpoint (disabled,slowed)", None);
        said(&delivery("held", Some(20)), &[&slowed], false, "its endpoint (slowed)", Some(30));
        for status in ["delivered", "dead"] {
            assert_eq!(waits(&delivery(status, None), &[], false, at(10)), None);
        }
    }
}
