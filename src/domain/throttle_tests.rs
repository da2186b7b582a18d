use proptest::prelude::*;

use super::*;

/// The most moments within one second, anywhere.
fn busiest_second(moments: &[u64]) -> usize {
    let mut sorted = moments.to_vec();
    sorted.sort_unstable();
    let (mut from, mut most) = (0, 0);
    for to in 0..sorted.len() {
        while sorted[to] - sorted[from] >= 1000 {
            from += 1;
        }
        most = most.max(to - from + 1);
    }
    most
}

#[test]
fn promised_times_are_one_interval_apart_and_begin_behind_who_waits() {
    let mut spacing = Spacing::default();
    assert_eq!(spacing.reserve(500.0, 0, 2_000), 2_000);
    assert_eq!(spacing.reserve(500.0, 0, 2_000), 2_002);
    assert_eq!(spacing.reserve(500.0, 1_000, 2_000), 1_004);
    assert_eq!(spacing.reserved_ms(1_000), 1_006);
    assert_eq!(spacing.reserved_ms(10_000), 0);
    assert!(spacing.reserve(0.0001, 10_000, 1_000) <= 3_600_000, "within the horizon");
}

#[test]
fn without_a_rate_nothing_waits() {
    assert_eq!(Spacing::default().take(None, 5, 0), Some(0));
}

#[test]
fn a_wish_to_slow_down_is_kept_and_then_forgiven_slowly() {
    let mut throttle = Throttle::default();
    assert!(throttle.is_over(0) && throttle.limit(None, 0).is_none());
    (0..100).for_each(|n| throttle.sent(1_000 + n));
    throttle.slow_down(1_000, Some(Duration::from_secs(5)), 1_200);
    assert_eq!(throttle.pause_ms(1_200), 5_000);
    assert_eq!(throttle.limit(None, 6_200), Some(50.0), "half of what was sent before");
    assert_eq!(throttle.limit(Some(20.0), 6_200), Some(20.0), "the endpoint's own limit stays");
    let later = throttle.limit(None, 11_200).unwrap();
    assert!((80.0..81.0).contains(&later), "a tenth more each second: {later}");
    assert!(throttle.is_over(60_000) && throttle.limit(None, 60_000).is_none());
}

#[test]
fn the_answers_of_one_overload_count_once() {
    let mut throttle = Throttle::default();
    (0..64).for_each(|n| throttle.sent(n));
    throttle.slow_down(0, None, 100);
    (0..10).for_each(|n| assert_eq!(throttle.slow_down(50, None, 110 + n), None));
    assert_eq!(throttle.limit(None, 1_119), Some(32.0));
    throttle.slow_down(1_200, None, 1_250);
    let halved = throttle.limit(None, 2_250).unwrap();
    assert!((16.0..17.0).contains(&halved), "a new one after the pause counts: {halved}");
}

#[test]
fn a_long_pause_is_told_once_and_nothing_is_left_of_one_that_is_lifted() {
    let minute = Some(Duration::from_secs(60));
    let mut throttle = Throttle::default();
    assert_eq!(throttle.slow_down(0, None, 100), None, "over before anybody looks");
    assert_eq!(throttle.slow_down(0, minute, 200), minute);
    assert_eq!(throttle.slow_down(0, minute, 900), None, "the same overload");
    assert_eq!(throttle.span_ms(900).map(|(since, _)| since), Some(100));
    assert_eq!(throttle.slow_down(0, minute, 2_000), minute, "longer than what is known");
    throttle.lift();
    assert_eq!((throttle.pause_ms(2_000), throttle.limit(None, 2_000), throttle.span_ms(2_000)), (0, None, None));
}

proptest! {
    /// Others are told of no more than was asked for, and know of all but a second of every pause that is long enough. What
    /// is said of its end is true.
    #[test]
    fn what_others_are_told_covers_the_pause(wishes in prop::collection::vec((0u64..20_000, 0u64..90), 1..30)) {
        let mut throttle = Throttle::default();
        let (mut now, mut told) = (0, 0);
        for (pause, seconds) in wishes {
            now += pause;
            throttle.sent(now);
            let asked = Duration::from_secs(seconds);
            let longer = throttle.slow_down(now, Some(asked), now);
            prop_assert!(longer.is_none_or(|length| length == asked));
            told = longer.map_or(told, |length| told.max(now + length.as_millis() as u64));
            prop_assert!(asked < SHARED || told + ONE_OVERLOAD_MS >= now + seconds * 1_000);
            let (since, until) = throttle.span_ms(now).expect("it has just begun");
            prop_assert!(since <= now && throttle.is_over(until + 1) && !throttle.is_over(until - 2));
        }
    }

    /// Never above the rate in any second, allowing the stated burst.
    #[test]
    fn never_above_the_rate(rate in 1.0f64..2_000.0, asks in prop::collection::vec(0u64..40, 1..2_000)) {
        let mut spacing = Spacing::default();
        let (mut now, mut begun) = (0, Vec::new());
        for pause in asks {
            now += pause;
            if let Some(wait) = spacing.take(Some(rate), now, 2_000) {
                begun.push(now + wait);
            }
        }
        let allowed = rate + (rate * BURST_SECONDS) + 2.0;
        prop_assert!(busiest_second(&begun) as f64 <= allowed, "{} of {allowed}", busiest_second(&begun));
    }

    /// And never much below it, while there is demand.
    #[test]
    fn the_rate_is_used(rate in 1.0f64..2_000.0) {
        let mut spacing = Spacing::default();
        let begun = (0..10_000u64).filter(|now| spacing.take(Some(rate), *now, 0).is_some()).count();
        prop_assert!(begun as f64 >= (rate * 10.0 * 0.9).floor().min(9_999.0), "{begun}");
    }

    /// Held deliveries do not come back faster than the rate.
    #[test]
    fn promises_keep_the_rate(rate in 1.0f64..1_000.0, pauses in prop::collection::vec(0u64..20, 1..1_000)) {
        let mut spacing = Spacing::default();
        let (mut now, mut promised) = (0, Vec::new());
        for pause in pauses {
            now += pause;
            let at = now + spacing.reserve(rate, now, 1_500);
            if at < now + 3_599_000 {
                promised.push(at);
            }
        }
        prop_assert!(busiest_second(&promised) as f64 <= rate + 2.0);
    }
}
