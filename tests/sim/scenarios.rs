//! What must hold beside bad neighbours, slow ones and bursts.

#[path = "scenarios/bursts.rs"]
mod bursts;
#[path = "scenarios/hanging.rs"]
mod hanging;
#[path = "scenarios/load.rs"]
mod load;
#[path = "scenarios/parts.rs"]
mod parts;
#[path = "scenarios/recovery.rs"]
mod recovery;
#[path = "scenarios/sharing.rs"]
mod sharing;
#[path = "scenarios/slow.rs"]
mod slow;

use super::clock::{MS, SECOND, Time};
use super::figures::Figures;
use super::setup::{Answers, HEALTHY, Setup};
use super::world::run;

/// Figures of others than the healthy.
const OTHERS: usize = 1;
/// What the processor can do in a second.
const CAPACITY: f64 = 5_000.0;
/// Against the same healthy traffic alone.
const AT_MOST: f64 = 1.5;

fn after_ms(ms: u64) -> Answers {
    Answers::After(ms * MS)
}

fn healthy(seconds: u64) -> Setup {
    Setup::healthy(seconds * SECOND)
}

/// Runs, and shows the figures if the test fails.
fn shown(setup: Setup) -> Figures {
    let figures = run(setup);
    figures.print();
    figures
}

/// The healthy get everything, and hardly notice that there is anybody else.
#[track_caller]
fn assert_unnoticed(figures: &Figures) {
    let alone = run(Setup::healthy(figures.end - SECOND));
    let (alone, healthy) = (&alone.groups[HEALTHY], &figures.groups[HEALTHY]);
    assert_all_healthy_delivered(figures);
    let (bound, p99) = (AT_MOST * alone.p99(), healthy.p99());
    assert!(p99 <= bound, "healthy p99 {p99:.1} ms; at most {bound:.1}");
}

#[track_caller]
fn assert_all_healthy_delivered(figures: &Figures) {
    let healthy = &figures.groups[HEALTHY];
    assert_eq!((healthy.delivered, healthy.held), (healthy.owed, 0), "healthy deliveries made, and held");
    assert!(healthy.is_flat(), "the waits of the healthy grow");
}

/// No endpoint gets more requests at once than it allows.
#[track_caller]
fn assert_limits(figures: &Figures) {
    assert_eq!(figures.above_limit, None, "more requests were open at an endpoint than it allows");
}

/// The least that one of the endpoints from this one on got, in parts of the most.
fn least_of_most(figures: &Figures, first: usize) -> f64 {
    let delivered = &figures.delivered[first..];
    let (least, most) = (delivered.iter().min(), delivered.iter().max());
    least.zip(most).map_or(1.0, |(least, most)| *least as f64 / (*most).max(1) as f64)
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let once = || {
        let figures = run(healthy(3).endpoints(1, OTHERS, after_ms(40)).steady(1, 1_200.0));
        figures.groups.into_iter().map(|group| group.waits).collect::<Vec<_>>()
    };
    assert_eq!(once(), once());
}
