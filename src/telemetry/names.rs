//! Every metric and label: name, kind, labels, unit and meaning. `docs/metrics.md` is checked against this table.
//!
//! An endpoint's id is a label of `TOP_HELD` and `TOP_DUE` only, which are bounded: there may be very many endpoints.

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    Counter,
    Gauge,
    /// With the upper bounds of its buckets, in seconds.
    Histogram(&'static [f64]),
}

#[derive(Debug, Clone, Copy)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    #[cfg_attr(not(test), expect(dead_code, reason = "a test holds it against docs/metrics.md"))]
    pub unit: &'static str,
    pub help: &'static str,
}

const fn counter(
    name: &'static str,
    labels: &'static [&'static str],
    unit: &'static str,
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Counter, labels, unit, help }
}

const fn gauge(name: &'static str, labels: &'static [&'static str], unit: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, labels, unit, help }
}

const fn seconds(
    name: &'static str,
    labels: &'static [&'static str],
    buckets: &'static [f64],
    help: &'static str,
) -> Metric {
    Metric { name, kind: Kind::Histogram(buckets), labels, unit: "seconds", help }
}

/// An attempt is over within the delivery time-out.
const ATTEMPT: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0, 60.0];
/// A delivery may take several retries.
const DELIVERY: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0, 14_400.0, 86_400.0,
];
const QUEUE: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0];

macro_rules! table {
    ($($constant:ident = $metric:expr;)*) => {
        $(pub const $constant: Metric = $metric;)*
        pub const ALL: &[Metric] = &[$($constant),*];
    };
}

table! {
    OUTBOX_PENDING = gauge("posthaste_outbox_pending", &[], "events",
        "Committed events that no relay has moved yet.");
    OUTBOX_OLDEST_AGE = gauge("posthaste_outbox_oldest_age_seconds", &[], "seconds",
        "Age of the oldest event in the outbox; 0 when it is empty.");
    UNMATCHED = counter("posthaste_events_unmatched_total", &[], "events",
        "Events that no endpoint matched: recorded, with nothing to deliver.");
    SET_ASIDE = gauge("posthaste_events_set_aside", &[], "events",
        "Events that could not be moved out of the outbox and wait for an operator, up to 10000.");
    UNCONFIRMED_AGE = gauge("posthaste_unconfirmed_oldest_age_seconds", &[], "seconds",
        "Age of the oldest batch that the broker has not fully confirmed, since its claim; 0 when there is none.");
    PARTITION_DAYS = gauge("posthaste_partitions_ahead", &[], "days",
        "Days after today that already have partitions.");
    RETENTION_OVERDUE = gauge("posthaste_retention_overdue_seconds", &[], "seconds",
        "How long ago the oldest day should have been dropped that is still there; 0 when there is none. Of the leader only.");
    RETENTION_PINNED = gauge("posthaste_retention_pinned", &["reason"], "days",
        "Days of history that are older than the retention and cannot be dropped. Of the leader only.");
    DAYS_DROPPED = counter("posthaste_history_dropped_total", &[], "days",
        "Days of history that this relay has dropped.");
    LEADS = gauge("posthaste_relay_leads", &[], "relays",
        "1 in the relay that leads, 0 in the others.");
    RELAY_PUBLISHED = counter("posthaste_relay_published_total", &[], "messages",
        "Messages that the broker has confirmed to a relay.");
    ATTEMPTS = counter("posthaste_attempts_total", &["outcome", "status_class"], "attempts",
        "Requests made to endpoints.");
    ATTEMPT_DURATION = seconds("posthaste_attempt_duration_seconds", &[], ATTEMPT,
        "Time of one request, from connecting to the end of the response.");
    FIRST_ATTEMPT_LATENCY = seconds("posthaste_first_attempt_latency_seconds", &["health"], DELIVERY,
        "Time from the event's creation, according to its id, to the start of its delivery's first attempt.");
    DELIVERY_LATENCY = seconds("posthaste_delivery_latency_seconds", &["health"], DELIVERY,
        "Time from the event's creation, according to its id, to the 2xx response.");
    DELIVERIES_IN_FLIGHT = gauge("posthaste_deliveries_in_flight", &[], "requests",
        "Requests in flight in this process.");
    QUEUE_DEPTH = gauge("posthaste_queue_depth", &["queue"], "messages",
        "Ready messages in a queue: those that no worker holds.");
    QUEUE_LATENCY = seconds("posthaste_queue_latency_seconds", &["queue"], QUEUE,
        "Time that a marker took through a work queue.");
    RETRIES_WAITING = gauge("posthaste_retries_waiting", &["tier"], "messages",
        "Retries that wait in delay queues, by the delay of the retry schedule.");
    DEAD_LETTERS = counter("posthaste_dead_letters_total", &["reason"], "deliveries",
        "Deliveries that became dead.");
    DEAD_LETTER_DEPTH = gauge("posthaste_dead_letter_depth", &[], "messages",
        "Messages in the dead-letter queue.");
    CIRCUITS_OPEN = gauge("posthaste_endpoints_circuit_open", &[], "endpoints",
        "Endpoints whose circuit is open or half open.");
    ENDPOINT_PAUSES = gauge("posthaste_endpoint_pauses", &["reason"], "endpoints",
        "Endpoints that are not sent to, or not as fast as there is work for them.");
    OPERATIONS_LEFT_OUT = counter("posthaste_operations_events_left_out_total", &[], "events",
        "Events for operations.tenant that were left out because there were too many.");
    HELD_DELIVERIES = gauge("posthaste_held_deliveries", &[], "deliveries",
        "Deliveries that wait in PostgreSQL, not in the broker, up to 100000.");
    TOP_HELD = gauge("posthaste_endpoint_held_deliveries", &["endpoint"], "deliveries",
        "Held deliveries of the telemetry.top_endpoints endpoints that have the most, up to 10000 of a day each.");
    TOP_DUE = gauge("posthaste_endpoint_held_oldest_due_seconds", &["endpoint"], "seconds",
        "How long ago the first held delivery of these endpoints was due; 0: it is not due yet.");
    HELD = counter("posthaste_held_total", &["reason"], "deliveries",
        "Deliveries that were taken out of the broker to wait in PostgreSQL.");
    LOST_AND_REPUBLISHED = counter("posthaste_lost_and_republished_total", &[], "messages",
        "Messages that the broker had lost, published again.");
    DUPLICATES_DISCARDED = counter("posthaste_duplicates_discarded_total", &[], "messages",
        "Stale or duplicate messages that a worker dropped without a request.");
    DEPENDENCY_UP = gauge("posthaste_dependency_up", &["dependency"], "",
        "1 while this process can use it, 0 while it cannot: down, or blocked by an alarm.");
    BUILD_INFO = gauge("posthaste_build_info", &["version", "revision"], "",
        "Always 1; the labels say what is running.");
    TASKS = gauge("posthaste_tasks", &[], "tasks",
        "Tasks of this process that have not ended; open connections and requests have some of their own.");
    DUTY_DONE = gauge("posthaste_leader_duty_success_timestamp_seconds", &["duty"], "seconds",
        "When the leading relay last did this without an error, as Unix time.");
    LOG_LINES_DROPPED = counter("posthaste_log_lines_dropped_total", &[], "lines",
        "Log lines that were dropped because what reads them did not keep up.");
    SPANS_DROPPED = counter("posthaste_spans_dropped_total", &[], "spans",
        "Spans that were not exported: too many waited, or the collector did not take them.");
    RECEIVER_VERIFICATIONS = counter("posthaste_receiver_verifications_total", &["result"], "requests",
        "Signatures that a receiver has checked.");
}

/// The label `outcome` of an attempt, as in the attempts table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    Delivered,
    Retry,
    Dead,
}

impl AttemptOutcome {
    pub fn as_str(self) -> &'static str {
        match self {
            AttemptOutcome::Delivered => "delivered",
            AttemptOutcome::Retry => "retry",
            AttemptOutcome::Dead => "dead",
        }
    }
}

/// The label `health` of latencies: what may be expected of the endpoint at that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It answered at the first attempt, and nothing kept the delivery from being sent at once.
    Healthy,
    /// It answered at the first attempt, but has a rate limit, or the delivery was held behind others of its endpoint.
    Limited,
    /// It has failed: this delivery before, or so much that its circuit has opened lately.
    Failing,
}

impl Standing {
    pub fn as_str(self) -> &'static str {
        match self {
            Standing::Healthy => "healthy",
            Standing::Limited => "limited",
            Standing::Failing => "failing",
        }
    }
}

/// Why a delivery was taken out of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldReason {
    Disabled,
    /// More is in flight to the endpoint than its share.
    Busy,
    RetryAfter,
    OurFault,
    RateLimit,
    /// The endpoint asked to slow down.
    Slowed,
    /// Its circuit is not closed, or the endpoint keeps failing and it will open soon.
    Circuit,
}

impl HeldReason {
    pub fn as_str(self) -> &'static str {
        match self {
            HeldReason::Disabled => "disabled",
            HeldReason::Busy => "busy",
            HeldReason::RetryAfter => "retry_after",
            HeldReason::OurFault => "our_fault",
            HeldReason::RateLimit => "rate_limit",
            HeldReason::Slowed => "slowed",
            HeldReason::Circuit => "circuit",
        }
    }
}

/// Why an endpoint is not sent to, as in `posthaste.endpoint_pauses`.
pub const PAUSES: [&str; 6] = ["disabled", "circuit_open", "circuit_half_open", "slowed", "rate_limit", "behind"];

/// What the leading relay does again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duty {
    /// Publishing what relays that are gone have left.
    Adoption,
    Circuits,
    /// Removing what is too old to be needed.
    Cleaning,
    /// Removing keys that have expired.
    IdempotencyKeys,
    Markers,
    /// Making the partitions of the next days.
    Partitions,
    Reconcile,
    Release,
    /// Dropping days that are older than the retention.
    Retention,
    /// Looking for the endpoints that have the most held deliveries.
    TopEndpoints,
    /// Counting the retries that wait in delay queues.
    Waiting,
}

impl Duty {
    pub fn as_str(self) -> &'static str {
        match self {
            Duty::Adoption => "adoption",
            Duty::Circuits => "circuits",
            Duty::Cleaning => "cleaning",
            Duty::IdempotencyKeys => "idempotency_keys",
            Duty::Markers => "markers",
            Duty::Partitions => "partitions",
            Duty::Reconcile => "reconcile",
            Duty::Release => "release",
            Duty::Retention => "retention",
            Duty::TopEndpoints => "top_endpoints",
            Duty::Waiting => "waiting",
        }
    }
}
