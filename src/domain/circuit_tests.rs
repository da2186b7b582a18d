use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::domain::outcome::Phase;

const RULES: Rules = Rules {
    enabled: true,
    min_failures: 20,
    min_duration_ms: 30_000,
    failure_share: 0.5,
    cooldown_ms: 30_000,
    max_cooldown_ms: 600_000,
};
const CLOSED: Circuit = Circuit { state: State::Closed, trips: 0 };

fn response(status: u16) -> Outcome {
    Outcome::response(status, None)
}

#[test]
fn only_what_the_endpoint_did_counts() {
    assert_eq!(health(&response(204), &BTreeSet::new()), Health::Good);
    for bad in [response(500), response(404), response(301), response(503), Outcome::Timeout(Phase::Body)] {
        assert_eq!(health(&bad, &BTreeSet::new()), Health::Bad, "{bad:?}");
    }
    let asked = Outcome::response(503, Some(Duration::from_secs(1)));
    for answer in [response(429), response(410), asked] {
        assert_eq!(health(&answer, &BTreeSet::new()), Health::Answering, "{answer:?}");
    }
    assert_eq!(health(&response(422), &BTreeSet::from([422])), Health::Answering);
}

#[test]
fn it_opens_after_a_count_a_share_and_a_time_and_not_before() {
    let mut window = Window::default();
    for second in 0..30 {
        assert_eq!(window.fold(Health::Bad, CLOSED, &RULES, second * 1000), None, "too soon");
    }
    assert_eq!(window.fold(Health::Bad, CLOSED, &RULES, 30_000), Some(Turn::Open));

    let mut few = Window::default();
    for minute in 0..19 {
        assert_eq!(few.fold(Health::Bad, CLOSED, &RULES, minute * 60_000), None, "too few");
    }
    assert_eq!(few.fold(Health::Bad, CLOSED, &RULES, 19 * 60_000), Some(Turn::Open));

    let mut mixed = Window::default();
    for n in 0..1000 {
        let health = if n % 3 == 0 { Health::Bad } else { Health::Good };
        assert_eq!(mixed.fold(health, CLOSED, &RULES, n * 100), None, "a third is not half");
    }
}

#[test]
fn an_endpoint_that_has_just_recovered_is_left_alone_while_it_succeeds() {
    let mut window = Window::default();
    for second in 0..25 {
        assert_eq!(window.fold(Health::Bad, CLOSED, &RULES, second * 1000), None);
    }
    for second in 25..40 {
        assert_eq!(window.fold(Health::Good, CLOSED, &RULES, second * 1000), None, "a success never opens it");
    }
    assert_eq!(window.fold(Health::Bad, CLOSED, &RULES, 40_000), Some(Turn::Open));
}

#[test]
fn retries_wait_in_postgresql_from_the_count_and_the_share_on() {
    let mut window = Window::default();
    for _ in 0..20 {
        assert!(!window.keeps_failing(CLOSED, &RULES));
        window.fold(Health::Bad, CLOSED, &RULES, 1_000);
    }
    assert!(window.keeps_failing(CLOSED, &RULES));
    assert!(!window.keeps_failing(CLOSED, &Rules { enabled: false, ..RULES }));
    for _ in 0..21 {
        window.fold(Health::Good, CLOSED, &RULES, 2_000);
    }
    assert!(!window.keeps_failing(CLOSED, &RULES), "most are delivered now");
    let fresh = Window::default();
    for state in [State::Open, State::HalfOpen] {
        assert!(fresh.keeps_failing(Circuit { state, trips: 1 }, &RULES));
    }
}

#[test]
fn half_open_is_decided_by_the_first_answer_and_open_by_none() {
    let half = Circuit { state: State::HalfOpen, trips: 1 };
    let open = Circuit { state: State::Open, trips: 1 };
    let mut window = Window::default();
    assert_eq!(window.fold(Health::Good, half, &RULES, 0), Some(Turn::Close));
    assert_eq!(window.fold(Health::Bad, half, &RULES, 0), Some(Turn::Open));
    assert_eq!(window.fold(Health::Answering, half, &RULES, 0), Some(Turn::Close), "it is there");
    assert_eq!(window.fold(Health::Answering, CLOSED, &RULES, 0), None);
    assert_eq!(window.fold(Health::Bad, open, &RULES, 0), None);
    assert_eq!(window.fold(Health::Bad, half, &Rules { enabled: false, ..RULES }, 0), None);
}

#[test]
fn on_probation_the_count_alone_opens_and_a_good_window_heals() {
    let probation = Circuit { state: State::Closed, trips: 2 };
    let mut window = Window::default();
    for _ in 0..19 {
        assert_eq!(window.fold(Health::Bad, probation, &RULES, 10), None);
    }
    assert_eq!(window.fold(Health::Bad, probation, &RULES, 10), Some(Turn::Open));
    assert_eq!(window.fold(Health::Good, probation, &RULES, 20), None);
    assert_eq!(window.fold(Health::Good, probation, &RULES, 30_020), Some(Turn::Heal));
    assert!(window.is_empty());
}

proptest! {
    /// Whatever comes, the circuit never opens below the count or the share of failures.
    #[test]
    fn it_never_opens_without_reason(outcomes in prop::collection::vec((any::<bool>(), 0u64..2_000), 1..400)) {
        let mut window = Window::default();
        let (mut now, mut bad_in_all) = (0, 0u32);
        for (good, pause) in outcomes {
            now += pause;
            bad_in_all += u32::from(!good);
            let health = if good { Health::Good } else { Health::Bad };
            if window.fold(health, CLOSED, &RULES, now).is_some() {
                prop_assert!(!good, "a success never opens it");
                prop_assert!(bad_in_all >= RULES.min_failures);
                bad_in_all = 0;
            }
        }
    }

    /// An endpoint that fails always is found out, however slow its traffic is.
    #[test]
    fn a_dead_endpoint_is_always_found_out(pause in 1u64..600_000) {
        let mut window = Window::default();
        let needed = 20.max(30_000 / pause + 2);
        prop_assert!((0..needed).any(|n| window.fold(Health::Bad, CLOSED, &RULES, n * pause) == Some(Turn::Open)));
    }

    #[test]
    fn the_cooldown_grows_to_its_cap_and_is_jittered(trips in 0u32..40, random in 0.0f64..1.0) {
        let base = (30_000u64 << trips.min(10)).min(600_000) as f64;
        let got = cooldown_ms(&RULES, trips, random) as f64;
        prop_assert!(got >= base * 0.8 - 1.0 && got <= base * 1.2);
    }
}
