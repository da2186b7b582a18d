//! Recording: one typed function for each thing that happens, and the recorder behind them.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use metrics_process::Collector;
use uuid::Uuid;

use super::names::*;
use super::top;
use crate::domain::dead_reason::DeadReason;
use crate::domain::retention::Pin;

/// Makes the recorder the process's own. To be called once, before anything is recorded.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = builder()?.install_recorder()?;
    describe();
    build_info();
    Collector::default().describe();
    Ok(handle)
}

fn builder() -> Result<PrometheusBuilder, BuildError> {
    ALL.iter().try_fold(PrometheusBuilder::new(), |builder, metric| match metric.kind {
        Kind::Histogram(buckets) => builder.set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), buckets),
        Kind::Counter | Kind::Gauge => Ok(builder),
    })
}

/// Counters without labels start at 0: a rate over a counter that appears with its first event misses that event.
/// Gauges do not: a worker that knows nothing of the outbox must not say that it is empty.
fn describe() {
    for metric in ALL {
        match metric.kind {
            Kind::Counter => {
                describe_counter!(metric.name, metric.help);
                if metric.labels.is_empty() {
                    counter!(metric.name).absolute(0);
                }
            }
            Kind::Gauge => describe_gauge!(metric.name, metric.help),
            Kind::Histogram(_) => describe_histogram!(metric.name, Unit::Seconds, metric.help),
        }
    }
}

pub fn outbox(pending: u64, oldest_age: Duration) {
    gauge!(OUTBOX_PENDING.name).set(pending as f64);
    gauge!(OUTBOX_OLDEST_AGE.name).set(oldest_age.as_secs_f64());
}

pub fn unmatched(events: u64) {
    counter!(UNMATCHED.name).increment(events);
}

/// What an operator must see before it hurts.
pub fn watched(set_aside: u64, unconfirmed_oldest_age: Duration, partition_days_ahead: i32, left_out: u64) {
    counter!(OPERATIONS_LEFT_OUT.name).absolute(left_out);
    gauge!(SET_ASIDE.name).set(set_aside as f64);
    gauge!(UNCONFIRMED_AGE.name).set(unconfirmed_oldest_age.as_secs_f64());
    gauge!(PARTITION_DAYS.name).set(f64::from(partition_days_ahead));
}

/// What is not named is 0.
pub fn retention(overdue: Duration, pinned: &HashMap<Pin, u64>) {
    gauge!(RETENTION_OVERDUE.name).set(overdue.as_secs_f64());
    for pin in Pin::ALL {
        let days = pinned.get(&pin).copied().unwrap_or_default();
        gauge!(RETENTION_PINNED.name, "reason" => pin.as_str()).set(days as f64);
    }
}

pub fn day_dropped() {
    counter!(DAYS_DROPPED.name).increment(1);
}

pub fn leads(leads: bool) {
    gauge!(LEADS.name).set(if leads { 1.0 } else { 0.0 });
}

pub fn relay_published(messages: u64) {
    counter!(RELAY_PUBLISHED.name).increment(messages);
}

pub fn attempt(outcome: AttemptOutcome, status_class: &'static str, duration: Duration) {
    counter!(ATTEMPTS.name, "outcome" => outcome.as_str(), "status_class" => status_class).increment(1);
    histogram!(ATTEMPT_DURATION.name).record(duration);
}

pub fn first_attempt(standing: Standing, latency: Duration) {
    histogram!(FIRST_ATTEMPT_LATENCY.name, "health" => standing.as_str()).record(latency);
}

pub fn delivered(standing: Standing, latency: Duration) {
    histogram!(DELIVERY_LATENCY.name, "health" => standing.as_str()).record(latency);
}

/// Counts one request as in flight until it is dropped, whichever way the request ends.
#[derive(Debug)]
#[must_use]
pub struct InFlight(());

pub fn in_flight() -> InFlight {
    gauge!(DELIVERIES_IN_FLIGHT.name).increment(1.0);
    InFlight(())
}

impl Drop for InFlight {
    fn drop(&mut self) {
        gauge!(DELIVERIES_IN_FLIGHT.name).decrement(1.0);
    }
}

pub fn queue_depth(queue: &str, messages: u64) {
    gauge!(QUEUE_DEPTH.name, "queue" => queue.to_owned()).set(messages as f64);
}

pub fn queue_latency(queue: &str, latency: Duration) {
    histogram!(QUEUE_LATENCY.name, "queue" => queue.to_owned()).record(latency);
}

/// By the base delay of the tier; what belongs to none is `other`.
pub fn retries_waiting(tier: Option<Duration>, messages: u64) {
    let tier = tier.map_or_else(|| "other".to_owned(), |delay| humantime::format_duration(delay).to_string());
    gauge!(RETRIES_WAITING.name, "tier" => tier).set(messages as f64);
}

pub fn dead_letter(reason: DeadReason) {
    counter!(DEAD_LETTERS.name, "reason" => reason.as_str()).increment(1);
}

pub fn dead_letter_depth(messages: u64) {
    gauge!(DEAD_LETTER_DEPTH.name).set(messages as f64);
}

pub fn circuits_open(endpoints: u64) {
    gauge!(CIRCUITS_OPEN.name).set(endpoints as f64);
}

/// What is not named is 0.
pub fn endpoint_pauses(endpoints: &HashMap<&str, u64>) {
    for reason in PAUSES {
        let count = endpoints.get(reason).copied().unwrap_or_default();
        gauge!(ENDPOINT_PAUSES.name, "reason" => reason).set(count as f64);
    }
}

pub fn held_deliveries(deliveries: u64) {
    gauge!(HELD_DELIVERIES.name).set(deliveries as f64);
}

/// These endpoints and no others have series of their own: held deliveries, and since when the first one has been due.
pub fn top_endpoints(endpoints: &[(Uuid, f64, f64)]) {
    top::set(TOP_HELD, endpoints.iter().map(|(endpoint, held, _)| (*endpoint, *held)).collect());
    top::set(TOP_DUE, endpoints.iter().map(|(endpoint, _, due_s)| (*endpoint, *due_s)).collect());
}

pub fn held(reason: HeldReason) {
    counter!(HELD.name, "reason" => reason.as_str()).increment(1);
}

pub fn lost_and_republished(messages: u64) {
    counter!(LOST_AND_REPUBLISHED.name).increment(messages);
}

pub fn duplicate_discarded() {
    counter!(DUPLICATES_DISCARDED.name).increment(1);
}

pub fn dependency_up(dependency: &'static str, up: bool) {
    gauge!(DEPENDENCY_UP.name, "dependency" => dependency).set(if up { 1.0 } else { 0.0 });
}

/// The image's build names the revision; nobody else knows it.
fn build_info() {
    let revision = option_env!("POSTHASTE_REVISION").unwrap_or("unknown");
    gauge!(BUILD_INFO.name, "version" => env!("CARGO_PKG_VERSION"), "revision" => revision).set(1.0);
}

pub fn tasks(alive: usize) {
    gauge!(TASKS.name).set(alive as f64);
}

/// CPU, memory, file handles and start of this process, by the names that Prometheus clients use.
pub fn process() {
    Collector::default().collect();
}

pub fn duty_done(duty: Duty) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!(DUTY_DONE.name, "duty" => duty.as_str()).set(now.as_secs_f64());
}

pub fn log_line_dropped() {
    counter!(LOG_LINES_DROPPED.name).increment(1);
}

pub fn spans_dropped(spans: u64) {
    counter!(SPANS_DROPPED.name).increment(spans);
}

pub fn receiver_verification(result: &'static str) {
    counter!(RECEIVER_VERIFICATIONS.name, "result" => result).increment(1);
}

#[cfg(test)]
#[path = "metrics_tests.rs"]
mod tests;
