//! The one log line of an attempt. Fields have the names of OpenTelemetry's semantic conventions where those have one.

use super::job::Job;
use crate::domain::share::Share;
use crate::store::deliveries::Snapshot;
use crate::telemetry::names::AttemptOutcome;

/// What attempts are logged under, whatever file this is: `telemetry.log_level` can name it.
const TARGET: &str = "posthaste::attempts";

/// A delivered attempt is worth a line to whoever looks for one, and a share of them to everybody who wants it: the attempts
/// table has all of them anyway.
pub fn write(job: &Job, snapshot: &Snapshot, outcome: AttemptOutcome, log_delivered: Share) {
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(
                target: TARGET,
                event_id = %job.message.event_id,
                endpoint_id = %job.message.endpoint_id,
                event_type = &*job.message.event_type,
                attempt = snapshot.row.attempts,
                outcome = outcome.as_str(),
                http.response.status_code = job.settlement.status_code,
                "error.type" = error_type(job),
                error.message = job.settlement.error,
                duration_ms = job.settlement.duration_ms,
                retry_in_ms = snapshot.row.due_in_ms,
                trace_id = job.trace.as_ref().map(|trace| trace.id()),
                span_id = job.trace.as_ref().and_then(|trace| trace.request_id()),
                "attempt"
            )
        };
    }
    match outcome {
        AttemptOutcome::Delivered if log_delivered.has(job.message.event_id) => line!(info),
        AttemptOutcome::Delivered => line!(debug),
        AttemptOutcome::Retry | AttemptOutcome::Dead => line!(info),
    }
}

/// The status code of an answer that is a failure, or how the request failed.
fn error_type(job: &Job) -> Option<String> {
    job.settlement.error.as_ref()?;
    Some(job.settlement.status_code.map_or_else(|| job.status_class.to_owned(), |code| code.to_string()))
}
