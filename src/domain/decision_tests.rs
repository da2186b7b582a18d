use uuid::Uuid;

use super::*;
use crate::domain::backoff::{Policies, Settings};
use crate::domain::outcome::{Failure, Phase};

fn policies() -> Policies {
    let settings = Settings {
        schedule: vec![Duration::from_secs(30), Duration::from_secs(120)],
        jitter_bps: 0,
        slots: 1,
        budget: 0,
        permanent_status_codes: [400, 422].into(),
        max_retry_after: Duration::from_secs(3_600),
        max_pause: Duration::from_secs(600),
    };
    Policies::new(Policy::new("default", &settings).unwrap(), Default::default()).unwrap()
}

fn decide_first(outcome: Outcome) -> Decision {
    let policies = policies();
    let key = DeliveryKey { event_id: Uuid::nil(), endpoint_id: Uuid::nil() };
    decide(&outcome, key, 1, 1, policies.default_policy(), policies.delays())
}

fn response(status: u16, retry_after: Option<u64>) -> Outcome {
    Outcome::response(status, retry_after.map(Duration::from_secs))
}

#[test]
fn the_outcome_table_is_total_and_reads_as_documented() {
    let retry = Decision::Retry { delay_ms: 30_000 };
    for status in [200, 204, 299] {
        assert_eq!(decide_first(response(status, None)), Decision::Delivered, "{status}");
    }
    assert_eq!(decide_first(response(410, None)), Decision::Dead(DeadReason::Gone));
    for status in [400, 422] {
        assert_eq!(decide_first(response(status, None)), Decision::Dead(DeadReason::PermanentStatus), "{status}");
    }
    for status in [100, 300, 301, 304, 401, 404, 408, 425, 429, 500, 502, 503, 599] {
        assert_eq!(decide_first(response(status, None)), retry, "{status}");
    }
    for phase in [Phase::Connect, Phase::Response, Phase::Body] {
        assert_eq!(decide_first(Outcome::Timeout(phase)), retry);
    }
    for failure in [Failure::Dns, Failure::Refused, Failure::Reset, Failure::Tls, Failure::BlockedAddress] {
        assert_eq!(decide_first(Outcome::Failed(failure)), retry);
    }
}

#[test]
fn retry_after_is_a_floor_and_never_a_shortcut() {
    assert_eq!(decide_first(response(429, Some(1))), Decision::Retry { delay_ms: 30_000 });
    assert_eq!(decide_first(response(503, Some(110))), Decision::Retry { delay_ms: 120_000 }, "a queue covers it");
    let parked = |delay_ms| Decision::Park { delay_ms, why: Parked::RetryAfter };
    assert_eq!(decide_first(response(503, Some(40))), parked(40_000), "120 s would be too long");
    assert_eq!(decide_first(response(429, Some(1_000_000))), parked(3_600_000), "capped");
    assert_eq!(decide_first(response(500, Some(1_000))), Decision::Retry { delay_ms: 30_000 }, "429 and 503 only");
}

#[test]
fn only_a_retry_is_moved_to_postgresql() {
    let parked = Decision::Park { delay_ms: 7, why: Parked::KeepsFailing };
    assert_eq!(Decision::Retry { delay_ms: 7 }.in_postgres(), parked);
    let others = [
        Decision::Delivered,
        Decision::Dead(DeadReason::Gone),
        Decision::Park { delay_ms: 7, why: Parked::RetryAfter },
    ];
    for other in others {
        assert_eq!(other.in_postgres(), other);
    }
}

#[test]
fn only_answers_that_ask_for_it_slow_the_endpoint() {
    let policies = policies();
    let slowed = |outcome: &Outcome| asked_to_slow_down(outcome, policies.default_policy());
    assert_eq!(slowed(&response(429, None)), Some(None));
    assert_eq!(slowed(&response(503, Some(1))), Some(Some(Duration::from_secs(1))));
    assert_eq!(slowed(&response(429, Some(9_999))), Some(Some(Duration::from_secs(600))), "capped");
    assert!(slowed(&response(503, None)).is_none() && slowed(&response(500, Some(1))).is_none());
}

#[test]
fn a_fault_of_ours_that_lasts_is_looked_at_less_and_less_often() {
    assert_eq!(our_fault_pause_ms(0), 5_000);
    assert_eq!(our_fault_pause_ms(80_000), 10_000);
    assert_eq!(our_fault_pause_ms(u64::MAX), 300_000);
}

#[test]
fn outcomes_have_a_fixed_text_and_a_class() {
    let all = [
        (response(102, None), "1xx"),
        (response(200, None), "2xx"),
        (response(302, None), "3xx"),
        (response(404, None), "4xx"),
        (response(500, None), "5xx"),
        (Outcome::Timeout(Phase::Connect), "timeout"),
        (Outcome::Timeout(Phase::Response), "timeout"),
        (Outcome::Timeout(Phase::Body), "timeout"),
        (Outcome::Failed(Failure::Dns), "dns"),
        (Outcome::Failed(Failure::Refused), "refused"),
        (Outcome::Failed(Failure::Reset), "reset"),
        (Outcome::Failed(Failure::Tls), "tls"),
        (Outcome::Failed(Failure::BlockedAddress), "blocked_address"),
        (Outcome::Failed(Failure::InvalidRequest), "invalid_request"),
        (Outcome::Failed(Failure::Protocol), "protocol"),
    ];
    for (outcome, class) in all {
        assert_eq!(outcome.status_class(), class);
        assert_eq!(outcome.error().is_none(), outcome.is_delivered(), "{outcome:?}");
        assert_eq!(outcome.status().is_some(), matches!(outcome, Outcome::Response(_)));
    }
}
