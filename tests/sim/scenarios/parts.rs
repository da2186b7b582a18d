//! Each part of the rule is needed: without it a bound breaks.

use super::*;
use crate::world::AGAIN;

fn burst() -> Setup {
    healthy(5).tenant(100, OTHERS, after_ms(5)).burst(100, 0, 30_000)
}

fn hanging() -> Setup {
    healthy(8).endpoints(100, OTHERS, Answers::Never).steady(100, 10.0)
}

fn p99(setup: Setup) -> f64 {
    shown(setup).groups[HEALTHY].p99()
}

#[test]
fn claims_in_turn() {
    assert!(p99(burst().without(|parts| parts.claim_in_turn = false)) > 1_000.0);
}

#[test]
fn a_queue_that_is_nearly_empty() {
    assert!(p99(burst().without(|parts| parts.nearly_empty = 10_000)) > 1_000.0);
}

#[test]
fn seats_in_turn() {
    assert!(p99(burst().without(|parts| parts.seats_in_turn = false)) > 100.0);
}

#[test]
fn two_rooms() {
    assert!(p99(hanging().without(|parts| parts.two_rooms = false)) > 1_000.0);
}

#[test]
fn a_part_of_the_prompt_room_for_unknown_endpoints() {
    assert!(p99(super::hanging::thousand_new().without(|parts| parts.unknown_apart = false)) > 1_000.0);
}

#[test]
fn new_ones_held_for_endpoints_that_are_behind() {
    let trips = |setup| shown(setup).groups[OTHERS].trips();
    let (with, without) = (trips(hanging()), trips(hanging().without(|parts| parts.behind = false)));
    assert!(without > 1.5 * with, "{with:.2}, and {without:.2} without");
}

#[test]
fn half_of_the_places() {
    let ready = |setup| shown(setup).most_ready[AGAIN];
    let setup = || healthy(10).endpoints(200, OTHERS, after_ms(400)).steady(200, 15.0);
    let (with, without) = (ready(setup()), ready(setup().without(|parts| parts.half_of_places = false)));
    assert!(with <= 50 && without > 500, "{with} released ones wait in the queue, and {without} without");
}

#[test]
fn a_release_that_begins_elsewhere() {
    let setup = || healthy(10).endpoints(200, OTHERS, after_ms(400)).steady(200, 15.0);
    let least = |setup| least_of_most(&shown(setup), 50);
    let (with, without) = (least(setup()), least(setup().without(|parts| parts.release_begins_elsewhere = false)));
    assert!(without < 0.8 * with, "{with:.2}, and {without:.2} without");
}

#[test]
fn shares_of_the_places() {
    let setup = burst().workers(16).without(|parts| parts.shares = false);
    assert!(p99(setup) > 200.0);
}

#[test]
fn a_line_that_keeps_its_order() {
    let setup = || healthy(5).endpoints(1, OTHERS, after_ms(5)).burst(1, 0, 30_000);
    let held = |setup| shown(setup).groups[OTHERS].held;
    let (with, without) = (held(setup()), held(setup().without(|parts| parts.line_keeps_order = false)));
    assert!(with == 0 && without > 0, "{with} held, and {without} without");
}

/// Whatever has made an endpoint be behind: while it answers at once, it gets what it can take.
#[test]
fn more_than_the_places_for_an_endpoint_that_keeps_up() {
    let setup = healthy(5).endpoints(1, OTHERS, after_ms(5)).burst(1, 0, 30_000);
    let figures = shown(setup.without(|parts| parts.line_keeps_order = false));
    let rate = figures.throughput(SECOND, 5 * SECOND);
    assert!(figures.groups[OTHERS].held > 0 && rate > 0.8 * CAPACITY, "{rate:.0} of {CAPACITY}");
}
