//! Many things at once, and more than one worker.

use super::*;

const SLOW: usize = 2;
const SLOWER: usize = 3;
const BURST: usize = 4;

pub fn mixture() -> Setup {
    let hanging = healthy(8).endpoints(20, OTHERS, Answers::Never).steady(20, 10.0);
    let slow = hanging.endpoints(1, SLOW, after_ms(40)).steady(1, 1_200.0);
    let slower = slow.endpoints(5, SLOWER, after_ms(400)).steady(5, 120.0);
    slower.endpoints(1, BURST, after_ms(5)).burst(1, SECOND, 40_000)
}

fn ten_hang_and_one_is_slow() -> Setup {
    let hanging = healthy(15).endpoints(10, OTHERS, Answers::Never).steady(10, 10.0);
    hanging.endpoints(1, SLOW, after_ms(40)).steady(1, 1_200.0)
}

#[test]
fn beside_the_mixture() {
    for workers in [1, 4] {
        let figures = shown(mixture().workers(workers));
        assert_all_healthy_delivered(&figures);
        let healthy = &figures.groups[HEALTHY];
        assert!(
            healthy.p50() <= 30.0 && healthy.p99() <= 50.0,
            "p50 {:.1}, p99 {:.1} ms",
            healthy.p50(),
            healthy.p99()
        );
        let all = figures.throughput(2 * SECOND, 8 * SECOND);
        assert!(all >= 4_000.0, "{all:.0} a second");
        let slow = figures.groups[SLOW].delivered / 8;
        assert!(slow >= 300, "the endpoint of 40 ms gets {slow} a second");
    }
}

#[test]
fn with_any_number_of_workers() {
    for workers in [1, 4, 16] {
        let figures = shown(ten_hang_and_one_is_slow().workers(workers));
        assert_unnoticed(&figures);
        assert_limits(&figures);
        let slow = figures.groups[SLOW].delivered / 15;
        assert!(slow >= 740, "the endpoint of 40 ms gets {slow} a second from {workers} workers");
    }
}

/// The burst meets a worker that knows nothing of its endpoint, and must not end up among the held ones.
#[test]
fn a_mixture_from_the_beginning_keeps_the_machine_busy() {
    let mut setup = mixture();
    setup.sources.iter_mut().for_each(|source| source.from = 0);
    let all = shown(setup).throughput(SECOND, 8 * SECOND);
    assert!(all >= 4_000.0, "{all:.0} a second");
}

#[test]
fn bursts_with_sixteen_workers() {
    let setup = healthy(5).tenant(100, OTHERS, after_ms(5)).burst(100, 0, 30_000);
    let figures = shown(setup.workers(16));
    assert_all_healthy_delivered(&figures);
    assert!(figures.groups[HEALTHY].p99() <= 140.0);
    assert!(figures.throughput(SECOND, 5 * SECOND) >= 0.93 * CAPACITY);
}

#[test]
fn a_worker_that_joins_takes_its_share_and_the_others_give_way_within_a_second() {
    let joins: Time = 6 * SECOND;
    let mut setup = healthy(12).endpoints(1, OTHERS, after_ms(40)).steady(1, 1_200.0).workers(4);
    setup.joins = Some(joins);
    let figures = shown(setup);
    assert_unnoticed(&figures);
    let share = 32 / 5;
    let most = figures.most_open[50];
    assert!(most <= 32 + share, "{most} requests at once");
    let last = figures.above_limit.unwrap_or(0);
    assert!(last <= joins + 1_200 * MS, "more than allowed until {last}");
}
