//! Endpoints that answer, but take less than they are owed.

use super::*;

const FIRST: usize = 50;

#[test]
fn beside_one_of_40_ms_that_is_owed_half_as_much_again_as_it_takes() {
    let seconds = 20;
    let figures = shown(healthy(seconds).endpoints(1, OTHERS, after_ms(40)).steady(1, 1_200.0));
    assert_unnoticed(&figures);
    assert_limits(&figures);
    let slow = &figures.groups[OTHERS];
    let gets = figures.throughput(SECOND, seconds * SECOND) - 50.0;
    assert!(gets >= 0.95 * 800.0, "it gets {gets:.0} a second; it can take 800");
    assert!(slow.trips() <= 1.1, "{:.2} messages for each request", slow.trips());
    assert!(slow.held * 50 <= slow.owed, "{} held by the worker", slow.held);
}

#[test]
fn beside_ten_of_400_ms_that_are_owed_half_as_much_again_as_they_take() {
    let seconds = 20;
    let figures = shown(healthy(seconds).endpoints(10, OTHERS, after_ms(400)).steady(10, 120.0));
    assert_unnoticed(&figures);
    assert_limits(&figures);
    let gets = figures.throughput(2 * SECOND, seconds * SECOND) - 50.0;
    assert!(gets >= 0.9 * 800.0, "they get {gets:.0} a second; they can take 800");
    assert!(least_of_most(&figures, FIRST) >= 0.85, "{:?}", &figures.delivered[FIRST..]);
}

#[test]
fn beside_ten_of_400_ms_that_keep_up() {
    let figures = shown(healthy(15).endpoints(10, OTHERS, after_ms(400)).steady(10, 60.0));
    assert_unnoticed(&figures);
    let slow = &figures.groups[OTHERS];
    assert_eq!((slow.requests, slow.held), (slow.owed, 0));
}

#[test]
fn beside_two_hundred_of_400_ms() {
    let (from, seconds) = (8, 23);
    let figures = shown(healthy(seconds).endpoints(200, OTHERS, after_ms(400)).steady_from(200, from * SECOND, 15.0));
    assert_all_healthy_delivered(&figures);
    let p99 = figures.groups[HEALTHY].p99();
    assert!(p99 <= 22.0, "healthy p99 {p99:.1} ms");
    let gets = figures.throughput((from + 2) * SECOND, seconds * SECOND);
    assert!(gets >= 2_500.0, "{gets:.0} a second");
    assert!(least_of_most(&figures, FIRST) >= 0.3, "{:?}", &figures.delivered[FIRST..]);
}

/// Of the healthy, too, nobody is known then, and the first events of a few have to wait for the release.
#[test]
fn beside_two_hundred_of_400_ms_from_the_beginning() {
    let figures = shown(healthy(15).endpoints(200, OTHERS, after_ms(400)).steady(200, 15.0));
    let healthy = &figures.groups[HEALTHY];
    assert_eq!(healthy.delivered, healthy.owed);
    assert!(healthy.held <= 10 && healthy.p99() <= 50.0, "{} held, p99 {:.1} ms", healthy.held, healthy.p99());
}
