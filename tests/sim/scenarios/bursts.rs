//! A great many events committed at once.

use super::*;

const SECONDS: u64 = 5;
const EVENTS: u32 = 30_000;

fn beside() -> Setup {
    healthy(SECONDS)
}

fn ten_tenants(beside: Setup) -> Setup {
    let each = |setup: Setup, _| setup.endpoints(1, OTHERS, after_ms(5)).burst(1, 0, EVENTS / 10);
    (0..10).fold(beside, each)
}

/// Where the machine is busy the healthy share it with what is at hand of the burst, and with no more. The burst gets the
/// rest, and nothing of it is held.
#[track_caller]
fn assert_shared(setup: Setup, p50: f64, p99: f64, least: f64) {
    let figures = shown(setup);
    assert_all_healthy_delivered(&figures);
    assert_limits(&figures);
    let healthy = &figures.groups[HEALTHY];
    assert!(healthy.p50() <= p50 && healthy.p99() <= p99, "p50 {:.1}, p99 {:.1} ms", healthy.p50(), healthy.p99());
    let gets = figures.throughput(SECOND, SECONDS * SECOND);
    assert!(gets >= least * CAPACITY, "{gets:.0} a second");
    let burst = &figures.groups[OTHERS];
    assert_eq!((burst.held, burst.written_held), (0, 0));
}

#[test]
fn beside_one_of_a_single_endpoint() {
    assert_shared(beside().endpoints(1, OTHERS, after_ms(5)).burst(1, 0, EVENTS), 25.0, 50.0, 0.85);
}

#[test]
fn beside_one_of_a_tenant_with_a_hundred_endpoints() {
    assert_shared(beside().tenant(100, OTHERS, after_ms(5)).burst(100, 0, EVENTS), 60.0, 80.0, 0.95);
}

#[test]
fn beside_ten_tenants() {
    assert_shared(ten_tenants(beside()), 70.0, 85.0, 0.95);
}

#[test]
fn beside_a_fan_out_to_a_thousand_endpoints() {
    assert_shared(beside().tenant(1_000, OTHERS, after_ms(5)).fan_out(1_000, 0, EVENTS / 1_000), 60.0, 80.0, 0.95);
}

/// A slow machine does not take endpoints for slow that are not.
#[test]
fn on_a_slower_machine() {
    let mut setup = beside().tenant(100, OTHERS, after_ms(5)).burst(100, 0, EVENTS);
    setup.capacity = 3_500;
    let figures = shown(setup);
    assert_all_healthy_delivered(&figures);
    assert!(figures.groups[HEALTHY].p99() <= 110.0);
}

#[test]
fn one_alone_is_no_faster_than_beside_healthy_traffic() {
    let setup = || beside().endpoints(1, OTHERS, after_ms(5)).burst(1, 0, EVENTS);
    let per_second = |setup| run(setup).throughput(SECOND, SECONDS * SECOND);
    let (beside, alone) = (per_second(setup()), per_second(setup().without_healthy()));
    assert!(beside >= 0.95 * alone, "{beside:.0} a second; alone {alone:.0}");
}

#[test]
fn twenty_thousand_at_once_need_no_holds() {
    for (ms, seconds) in [(5, 4.6), (20, 13.5)] {
        let figures = shown(
            Setup::healthy(14 * SECOND).endpoints(1, OTHERS, after_ms(ms)).burst(1, SECOND, 20_000).without_healthy(),
        );
        let burst = &figures.groups[OTHERS];
        let took = (burst.last - SECOND) as f64 / SECOND as f64;
        assert!(burst.delivered == burst.owed && took <= seconds, "{} in {took:.2} s", burst.delivered);
        assert!(ms > 5 || burst.held == 0, "{} held", burst.held);
    }
}
