use serde_json::json;
use uuid::Uuid;

use super::*;

fn at(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(1_790_000_000_000 + ms).unwrap()
}

fn attempt(n: i32, outcome: &str, code: Option<i32>, error: Option<&str>, started: i64) -> Attempt {
    Attempt {
        event_id: Uuid::nil(),
        endpoint_id: Uuid::nil(),
        attempt: n,
        outcome: outcome.into(),
        status_code: code,
        error: error.map(Into::into),
        duration_ms: 12,
        started_at: at(started),
        next_attempt_at: (outcome == "retry").then(|| at(started + 30_000)),
        request_headers: None,
        response_headers: None,
        response_body: None,
        worker: Some("host-1".into()),
    }
}

fn delivery(status: &str, attempts: i32, base_attempts: i32) -> Listed {
    Listed {
        event_id: Uuid::nil(),
        endpoint_id: Uuid::nil(),
        status: status.into(),
        attempts,
        base_attempts,
        max_attempts: 5,
        next_attempt_at: None,
        last_status_code: None,
        last_error: None,
        dead_reason: (status == "dead").then(|| "exhausted".into()),
        created_at: at(8),
        updated_at: at(100_000),
        retry_policy: None,
    }
}

fn waits() -> Waits {
    Waits { what: "its time".into(), until: Some(at(30_012)) }
}

const ORIGIN: fn() -> Origin = || Origin { emitted: at(0), claimed: Some(at(8)), now: at(2_012) };

#[test]
fn a_life_is_told_in_the_order_of_time_with_what_the_receiver_said() {
    let mut first = attempt(1, "retry", Some(503), Some("status 503"), 12);
    first.response_headers = Some(json!({"retry-after": "30", "server": "x"}));
    first.response_body = Some(format!("\u{1b}[2Jtry later\n{}", "x".repeat(400)));
    let delivery = delivery("retrying", 1, 0);
    let life =
        Life { delivery: &delivery, attempts: vec![&first], waits: Some(waits()), policy: "gold", budget: Some(2) };

    let text = life.lines(&ORIGIN()).join("\n");

    let begin: String = "x".repeat(ANSWER - "\u{1b}[2Jtry later\n".chars().count());
    let expected = format!(
        "endpoint 00000000-0000-0000-0000-000000000000: retrying, 1 of 5 attempts made
  2026-09-21 14:13:20.000Z             emitted
  2026-09-21 14:13:20.008Z      +8 ms  claimed by a relay
  2026-09-21 14:13:20.012Z     +12 ms  attempt 1: status 503 after 12 ms, the next one at 2026-09-21 14:13:50.012Z (worker host-1)
                                        retry-after: 30
                                        answer: \\u{{1b}}[2Jtry later\\n{begin}... (414 characters were kept; --json shows them)
  waits for its time, until 2026-09-21 14:13:50.012Z (in 28s)
  at most 5 attempts, fixed when the event was claimed; budget of policy gold: 2 retries; 2 left"
    );
    assert_eq!(text, expected);
}

#[test]
fn an_end_a_requeue_and_a_replay_are_in_it() {
    let tried = [attempt(1, "retry", None, Some("timed out"), 12), attempt(4, "dead", Some(500), None, 90_000)];
    let mut dead = delivery("dead", 4, 3);
    dead.created_at = at(5_000);
    let life = Life { delivery: &dead, attempts: tried.iter().collect(), waits: None, policy: "default", budget: None };
    let lines = life.lines(&ORIGIN());
    assert!(lines[0].ends_with("dead, 1 of 5 attempts made (and 3 before it was sent again)"), "{lines:?}");
    assert!(lines[3].contains("+5000 ms  made by a replay"), "{lines:?}");
    assert_eq!(lines[5].trim_start(), "sent again, with a fresh set of attempts");
    assert!(lines[6].contains("+1m 30s  attempt 4: status 500 after 12 ms, the last one"), "{lines:?}");
    assert!(lines[7].ends_with("+1m 40s  dead letter: exhausted"), "{lines:?}");
    assert_eq!(lines[8], "  at most 5 attempts, fixed when the event was claimed; policy default has no budget");
}

#[test]
fn what_is_left_goes_by_the_lower_of_ceiling_and_budget() {
    let left = |attempts: i32, base: i32, budget: Option<u32>, waits: Option<Waits>| {
        let delivery = delivery("held", attempts, base);
        Life { delivery: &delivery, attempts: Vec::new(), waits, policy: "default", budget }.attempts_left()
    };
    assert_eq!([None, Some(1), Some(9)].map(|budget| left(1, 0, budget, Some(waits()))), [4, 1, 4]);
    assert_eq!(left(3, 0, Some(1), Some(waits())), 1, "the attempt that is under way is still made");
    assert_eq!(left(4, 3, Some(u32::MAX), Some(waits())), 4, "counted anew after a requeue");
    assert_eq!(left(2, 0, None, None), 0);
}

#[test]
fn distances_have_two_units() {
    let texts = [0, -5, 9_999, 10_000, 61_000, 3_700_000, 90_000_000].map(|ms| span(TimeDelta::milliseconds(ms)));
    assert_eq!(texts, ["", "-5 ms", "+9999 ms", "+10s", "+1m 1s", "+1h 1m", "+1d 1h"]);
}
