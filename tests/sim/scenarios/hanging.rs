//! Endpoints that never answer.

use super::*;

const HEALTHY_ENDPOINTS: usize = 50;

fn hang(seconds: u64, endpoints: u32, each: f64) -> Setup {
    healthy(seconds).endpoints(endpoints, OTHERS, Answers::Never).steady(endpoints, each)
}

pub(super) fn thousand_new() -> Setup {
    healthy(25).endpoints(1_000, OTHERS, Answers::Never).steady_from(1_000, 10 * SECOND, 1.0)
}

#[track_caller]
fn assert_beside(setup: Setup, trips: f64) {
    let figures = shown(setup);
    assert_unnoticed(&figures);
    assert_limits(&figures);
    let is = figures.groups[OTHERS].trips();
    assert!(is <= trips, "{is:.2} messages for each request of the hanging ones; at most {trips}");
}

#[test]
fn beside_one() {
    assert_beside(hang(20, 1, 10.0), 3.0);
}

#[test]
fn beside_ten() {
    assert_beside(hang(20, 10, 10.0), 2.6);
}

#[test]
fn beside_a_hundred() {
    assert_beside(hang(20, 100, 10.0), 2.4);
}

#[test]
fn beside_a_thousand_with_an_event_a_minute() {
    let figures = shown(hang(20, 1_000, 1.0 / 60.0));
    assert_unnoticed(&figures);
    assert_eq!(figures.groups[OTHERS].held, 0);
}

/// More than the slow room has seats, never seen before, and all at once.
#[test]
fn beside_a_thousand_that_nobody_knows() {
    let figures = shown(thousand_new());
    assert_unnoticed(&figures);
    assert_limits(&figures);
}

#[test]
fn slow_ones_among_them_get_what_they_are_owed() {
    let setup = hang(15, 40, 20.0).endpoints(10, 2, after_ms(400)).steady(10, 20.0);
    let figures = shown(setup);
    assert_unnoticed(&figures);
    let slow = &figures.groups[2];
    assert!(slow.delivered as f64 >= 0.95 * slow.owed as f64, "{} of {}", slow.delivered, slow.owed);
    assert!(figures.open.len() > HEALTHY_ENDPOINTS && slow.p99() <= 3_000.0);
}
