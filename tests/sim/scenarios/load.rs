//! Everybody healthy, and the machine nearly full.

use super::*;

const SECONDS: u64 = 6;

#[track_caller]
fn assert_nothing_held(setup: Setup) {
    let figures = shown(setup);
    for group in &figures.groups {
        assert_eq!((group.delivered, group.held, group.written_held), (group.owed, 0, 0));
        assert!(group.p99() <= 20.0, "p99 {:.1} ms", group.p99());
    }
}

#[test]
fn four_fifths_of_the_capacity() {
    assert_nothing_held(healthy(SECONDS).endpoints(200, OTHERS, after_ms(20)).steady(200, 19.75));
}

#[test]
fn four_fifths_of_the_capacity_with_all_speeds() {
    let of = |setup: Setup, ms| setup.endpoints(250, OTHERS, after_ms(ms)).steady(250, 3.95);
    assert_nothing_held([2, 20, 80, 200].into_iter().fold(healthy(SECONDS), of));
}
