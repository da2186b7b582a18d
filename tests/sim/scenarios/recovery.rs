//! Endpoints that become slow or hang, and come back.

use super::*;

#[test]
fn one_that_was_slow_for_a_while_is_soon_at_full_speed() {
    let (slow, well) = (2 * SECOND, 12 * SECOND);
    let answers = after_ms(5).then(slow, after_ms(5_000)).then(well, after_ms(5));
    let mut setup = healthy(20).endpoints(1, OTHERS, answers).steady(1, 300.0);
    setup.timeout = 15 * SECOND;
    let figures = shown(setup);
    assert_unnoticed(&figures);
    assert_eq!((figures.groups[OTHERS].delivered, figures.left_held), (figures.groups[OTHERS].owed, 0));
    // Its last slow answers come after five seconds. Then there is a backlog beside what is new.
    let speed = figures.throughput(well + 5 * SECOND, well + 6 * SECOND);
    assert!(speed >= 1_000.0, "{speed:.0} a second five seconds after it was well again");
    let late = figures.throughput(well + 7 * SECOND, well + 8 * SECOND);
    assert!((250.0..=450.0).contains(&late), "{late:.0} a second when the backlog should be gone");
}

#[test]
fn one_that_stays_slow_uses_all_its_requests() {
    let mut setup = healthy(30).endpoints(1, OTHERS, after_ms(5).then(2 * SECOND, after_ms(2_000))).steady(1, 100.0);
    setup.timeout = 15 * SECOND;
    let figures = shown(setup);
    assert_unnoticed(&figures);
    assert_limits(&figures);
    let gets = figures.throughput(15 * SECOND, 30 * SECOND) - 50.0;
    assert!(gets >= 0.8 * 16.0, "{gets:.1} a second; it can take 16");
}

#[test]
fn ten_that_hung_are_at_full_speed_again_and_nothing_is_left_held() {
    let well = 10 * SECOND;
    let answers = Answers::Never.then(well, after_ms(5));
    let figures = shown(healthy(35).endpoints(10, OTHERS, answers).steady(10, 10.0));
    assert_unnoticed(&figures);
    let others = &figures.groups[OTHERS];
    assert_eq!((others.delivered, figures.left_held), (others.owed, 0));
}
