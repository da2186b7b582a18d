//! What was asked for, as the account keeps it and as the database is asked: a run that was interrupted goes on by its account.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::super::failure::Failure;
use crate::cli::AgainFilter;
use crate::domain::delivery::Status;
use crate::domain::ids;
use crate::domain::outcome::ErrorClass;
use crate::store::again::{Kind, Selection};
use crate::store::requeue::Last;

/// Absent fields are of a newer or older version, and mean nothing.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Kept {
    events: Vec<Uuid>,
    endpoint: Option<Uuid>,
    tenant: Option<String>,
    event_type: Option<String>,
    status: Option<String>,
    status_codes: Vec<i32>,
    errors: Vec<String>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    all: bool,
    rate: Option<i32>,
}

pub fn of(filter: &AgainFilter, status: Option<Status>, all: bool, rate: Option<i32>) -> Value {
    let kept = Kept {
        events: filter.events.clone(),
        endpoint: filter.endpoint,
        tenant: filter.tenant.clone(),
        event_type: filter.event_type.clone(),
        status: status.map(|status| status.as_str().to_owned()),
        status_codes: filter.status_codes.clone(),
        errors: filter.errors.iter().map(|class| class.as_str().to_owned()).collect(),
        since: filter.since,
        until: filter.until,
        all,
        rate,
    };
    // Texts, numbers and times cannot fail to be written.
    serde_json::to_value(kept).unwrap_or_default()
}

pub fn read(kind: Kind, kept: &Value, start: DateTime<Utc>) -> Result<Selection, Failure> {
    let unreadable = |what: &str| Failure::Failed(format!("the selection that was kept cannot be read: {what}"));
    let kept = Kept::deserialize(kept).map_err(|error| unreadable(&error.to_string()))?;
    let parse = |text: &String| ErrorClass::parse(text).ok_or_else(|| unreadable("an error is unknown"));
    let errors = kept.errors.iter().map(parse).collect::<Result<_, _>>()?;
    let floor = |time: DateTime<Utc>| ids::floor(time.timestamp_millis());
    Ok(Selection {
        kind,
        events: kept.events,
        endpoint: kept.endpoint,
        tenant: kept.tenant,
        event_type: kept.event_type,
        status: kept.status.as_deref().and_then(Status::parse),
        last: Last { status_codes: kept.status_codes, errors },
        from: kept.since.map_or(Uuid::nil(), floor),
        to: kept.until.map_or(Uuid::max(), floor),
        start,
    })
}
