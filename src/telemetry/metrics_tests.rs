use super::*;

const DOCUMENT: &str = include_str!("../../docs/metrics.md");

/// What /metrics shows after the work.
fn rendered(work: impl FnOnce()) -> String {
    let recorder = builder().unwrap().build_recorder();
    let handle = recorder.handle();
    metrics::with_local_recorder(&recorder, || {
        describe();
        work();
    });
    handle.render() + &top::render()
}

fn record_everything() {
    endpoint_pauses(&[("slowed", 2)].into());
    outbox(7, Duration::from_millis(1500));
    unmatched(1);
    watched(2, Duration::from_secs(3), 7, 1);
    retention(Duration::from_secs(90), &[(Pin::Locked, 2)].into());
    day_dropped();
    leads(true);
    relay_published(3);
    attempt(AttemptOutcome::Delivered, "2xx", Duration::from_millis(20));
    attempt(AttemptOutcome::Retry, "timeout", Duration::from_secs(15));
    attempt(AttemptOutcome::Dead, "4xx", Duration::from_millis(1));
    first_attempt(Standing::Healthy, Duration::from_millis(5));
    delivered(Standing::Failing, Duration::from_secs(2));
    retries_waiting(Some(Duration::from_secs(30)), 9);
    retries_waiting(None, 1);
    dependency_up("broker", true);
    build_info();
    queue_depth("posthaste.deliver", 4);
    queue_latency("posthaste.retry", Duration::from_millis(30));
    DeadReason::ALL.into_iter().for_each(dead_letter);
    dead_letter_depth(5);
    circuits_open(1);
    held_deliveries(6);
    top_endpoints(&[(Uuid::nil(), 6.0, 2.0)]);
    for reason in [
        HeldReason::Disabled,
        HeldReason::Busy,
        HeldReason::RetryAfter,
        HeldReason::OurFault,
        HeldReason::RateLimit,
        HeldReason::Slowed,
        HeldReason::Circuit,
    ] {
        held(reason);
    }
    lost_and_republished(2);
    duplicate_discarded();
    tasks(8);
    duty_done(Duty::Release);
    log_line_dropped();
    spans_dropped(3);
    receiver_verification("ok");
    drop(in_flight());
}

#[test]
fn every_metric_of_the_table_is_recorded_with_its_kind_labels_and_help() {
    let text = rendered(record_everything);
    for metric in ALL {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        assert!(text.contains(&format!("# TYPE {} {kind}\n", metric.name)), "{}:\n{text}", metric.name);
        assert!(text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)), "{}", metric.name);
        let line = text.lines().find(|line| line.starts_with(metric.name)).unwrap();
        assert!(metric.labels.iter().all(|label| line.contains(&format!("{label}=\""))), "{line}");
        assert_eq!(line.contains('{'), !metric.labels.is_empty() || line.contains("le="), "{line}");
    }
}

#[test]
fn nothing_outside_the_table_is_exported() {
    let text = rendered(record_everything);
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(ALL.iter().any(|metric| metric.name == name), "{name}");
    }
}

#[test]
fn values_are_those_recorded() {
    let text = rendered(record_everything);
    for line in [
        "posthaste_outbox_pending 7",
        "posthaste_outbox_oldest_age_seconds 1.5",
        "posthaste_relay_published_total 3",
        "posthaste_attempts_total{outcome=\"retry\",status_class=\"timeout\"} 1",
        "posthaste_attempt_duration_seconds_bucket{le=\"0.025\"} 2",
        "posthaste_first_attempt_latency_seconds_bucket{health=\"healthy\",le=\"0.005\"} 1",
        "posthaste_delivery_latency_seconds_sum{health=\"failing\"} 2",
        "posthaste_retries_waiting{tier=\"30s\"} 9",
        "posthaste_retries_waiting{tier=\"other\"} 1",
        "posthaste_dependency_up{dependency=\"broker\"} 1",
        "posthaste_deliveries_in_flight 0",
        "posthaste_tasks 8",
        "posthaste_dead_letters_total{reason=\"gone\"} 1",
        "posthaste_held_total{reason=\"retry_after\"} 1",
        "posthaste_endpoint_pauses{reason=\"slowed\"} 2",
        "posthaste_endpoint_pauses{reason=\"disabled\"} 0",
        "posthaste_retention_pinned{reason=\"locked\"} 2",
        "posthaste_retention_pinned{reason=\"outbox\"} 0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line}:\n{text}");
    }
}

#[test]
fn at_start_counters_without_labels_are_zero_and_gauges_say_nothing() {
    let text = rendered(|| ());
    assert!(text.contains("posthaste_relay_published_total 0"));
    assert!(!text.contains("posthaste_outbox_pending"), "{text}");
}

#[test]
fn a_request_counts_as_in_flight_until_it_ends() {
    let text = rendered(|| {
        let first = in_flight();
        std::mem::forget(in_flight());
        drop(first);
    });
    assert!(text.contains("posthaste_deliveries_in_flight 1"), "{text}");
}

#[test]
fn buckets_ascend_and_names_follow_the_conventions() {
    for metric in ALL {
        assert!(metric.name.starts_with("posthaste_"));
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        if let Kind::Histogram(buckets) = metric.kind {
            assert!(metric.name.ends_with("_seconds") && buckets.is_sorted(), "{}", metric.name);
        }
        let is_bounded = [TOP_HELD.name, TOP_DUE.name].contains(&metric.name);
        assert!(is_bounded || metric.labels.iter().all(|label| !label.contains("endpoint")), "{}", metric.name);
    }
}

#[test]
fn the_document_holds_exactly_the_table() {
    let documented: Vec<&str> = DOCUMENT.lines().filter(|line| line.starts_with("| `posthaste_")).collect();
    let expected: Vec<String> = ALL.iter().map(row).collect();
    assert_eq!(documented, expected);
}

#[test]
fn the_document_names_every_reason_of_a_dead_letter() {
    let documented = DOCUMENT.lines().find(|line| line.starts_with("| `reason` of dead letters |")).expect("a row");
    for reason in DeadReason::ALL {
        assert!(documented.contains(&format!("`{}`", reason.as_str())), "{}", reason.as_str());
    }
}

fn row(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram(_) => "histogram",
    };
    let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{}` | {kind} | {} | {} | {} |", metric.name, labels.join(", "), metric.unit, metric.help)
}
