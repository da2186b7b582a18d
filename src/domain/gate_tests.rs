use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { max_in_flight: 4, max_waiting: 64, max_waiting_shortly: 512, rate: None };
const NEW: Arrival = Arrival::New;

#[test]
fn a_burst_to_a_prompt_endpoint_waits_and_is_never_held() {
    let mut gate = Gate::default();
    let mut open = Vec::new();
    for _ in 0..60 {
        match gate.ask(LIMITS, NEW, 0) {
            Answer::Send { ticket, pause_ms: 0 } => open.push(ticket),
            Answer::Wait => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((open.len(), gate.waiting()), (4, 56));
    let mut clock = 0;
    while let Some(ticket) = open.pop() {
        clock += 2;
        gate.finished(ticket, clock);
        if gate.waiting() > 0 {
            match gate.ask_again(LIMITS, NEW, clock, clock) {
                Answer::Send { ticket, .. } => open.insert(0, ticket),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(gate.is_idle(clock));
}

#[test]
fn a_great_burst_to_a_prompt_endpoint_takes_more_places_than_one_to_a_slow_one() {
    let crowd = |answer_ms: u64| {
        let mut gate = Gate::default();
        for n in 0..40 {
            let Answer::Send { ticket, .. } = gate.ask(LIMITS, NEW, n * answer_ms) else { panic!() };
            gate.finished(ticket, (n + 1) * answer_ms);
        }
        let now = 40 * answer_ms;
        (0..600).filter(|_| gate.ask(LIMITS, NEW, now) == Answer::Wait).count()
    };
    assert_eq!(crowd(3), 512);
    assert_eq!(crowd(60), 64);
}

#[test]
fn an_endpoint_that_hangs_gets_its_excess_held() {
    let mut gate = Gate::default();
    for _ in 0..4 {
        assert!(matches!(gate.ask(LIMITS, NEW, 0), Answer::Send { .. }));
    }
    assert_eq!(gate.ask(LIMITS, NEW, 10), Answer::Wait, "nothing wrong yet");
    let held = |answer| matches!(answer, Answer::Hold { why: Why::InFlight, .. });
    assert!(held(gate.ask(LIMITS, NEW, 2_100)), "the oldest request has been open for too long");
    assert!(held(gate.ask_again(LIMITS, NEW, 2_100, 2_090)), "and who waits is sent back too");
    assert_eq!((gate.in_flight(), gate.waiting()), (4, 0));
}

#[test]
fn above_the_rate_each_held_delivery_gets_its_own_time_and_is_let_through_then() {
    let limits = Limits { max_in_flight: 100, max_waiting: 10, max_waiting_shortly: 10, rate: Some(10.0) };
    let mut gate = Gate::default();
    let (mut times, mut open) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        match gate.ask(limits, NEW, 0) {
            Answer::Send { ticket, pause_ms } => open.push((pause_ms, ticket)),
            Answer::Hold { delay_ms, why: Why::Rate } => times.push(delay_ms),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(open.iter().map(|(pause, _)| *pause).collect::<Vec<_>>(), (0..=20).map(|n| n * 100).collect::<Vec<_>>());
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 100), "{times:?}");
    assert!(times[0] > 2_000);
    open.into_iter().for_each(|(_, ticket)| gate.finished(ticket, 2_100));
    assert!(!gate.is_idle(2_100), "promises are kept in mind");
    assert!(matches!(gate.ask(limits, NEW, 3_000), Answer::Hold { .. }), "a new one queues up behind them");
    for at in times {
        match gate.ask(limits, Arrival::Due, at) {
            Answer::Send { ticket, pause_ms } => {
                assert!(pause_ms <= 100);
                gate.finished(ticket, at);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_wish_to_slow_down_stops_all_and_then_paces() {
    let mut gate = Gate::default();
    let Answer::Send { ticket, .. } = gate.ask(LIMITS, NEW, 0) else { panic!() };
    gate.slow_down(ticket, Some(Duration::from_secs(10)), 50);
    gate.finished(ticket, 50);
    match gate.ask(LIMITS, NEW, 60) {
        Answer::Hold { delay_ms, why: Why::Slowed } => assert!(delay_ms >= 9_990, "{delay_ms}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(gate.ask(LIMITS, Arrival::Due, 10_050), Answer::Send { .. }));
    assert!(!matches!(gate.ask(LIMITS, Arrival::Due, 10_051), Answer::Send { pause_ms: 0, .. }), "one in a second now");
}

proptest! {
    /// Whatever is asked and finished in whatever order, the bounds hold and the books balance.
    #[test]
    fn bounds_hold_and_nothing_is_counted_twice(
        max_in_flight in 1usize..6,
        max_waiting in 0usize..6,
        rate in prop::option::of(0.5f64..100.0),
        steps in prop::collection::vec((0u8..5, 0u64..2_500, any::<bool>()), 1..200),
    ) {
        let limits = Limits { max_in_flight, max_waiting, max_waiting_shortly: max_waiting * 2, rate };
        let mut gate = Gate::default();
        let (mut now, mut open, mut waiting) = (0u64, Vec::new(), 0usize);
        for (step, pause, due) in steps {
            now += pause;
            let arrival = if due { Arrival::Due } else { Arrival::New };
            match step {
                0 | 1 => match gate.ask(limits, arrival, now) {
                    Answer::Send { ticket, pause_ms } => {
                        prop_assert!(pause_ms <= 2_000);
                        open.push(ticket)
                    }
                    Answer::Wait => waiting += 1,
                    Answer::Hold { delay_ms, .. } => prop_assert!((1_000..=3_600_000).contains(&delay_ms)),
                },
                2 if !open.is_empty() => gate.finished(open.remove(0), now),
                3 if !open.is_empty() => {
                    gate.slow_down(open[0], None, now);
                    gate.finished(open.remove(0), now);
                }
                4 if waiting > 0 => match gate.ask_again(limits, arrival, now, pause) {
                    Answer::Send { ticket, .. } => { waiting -= 1; open.push(ticket) }
                    Answer::Wait => {}
                    Answer::Hold { .. } => waiting -= 1,
                },
                _ => {}
            }
            prop_assert_eq!((gate.in_flight(), gate.waiting()), (open.len(), waiting));
            prop_assert!(open.len() <= max_in_flight && waiting <= max_waiting * 2);
        }
    }

    /// Whoever is held comes through when asking again at its time, if the endpoint answers at once: nothing is held for
    /// ever.
    #[test]
    fn everything_comes_through_in_the_end(rate in prop::option::of(1.0f64..200.0), burst in 1usize..300) {
        let limits = Limits { max_in_flight: 4, max_waiting: 8, max_waiting_shortly: 16, rate };
        let mut gate = Gate::default();
        let mut asking: Vec<(u64, Arrival)> = vec![(0, NEW); burst];
        let mut rounds = 0;
        while let Some((now, arrival)) = asking.pop() {
            rounds += 1;
            prop_assert!(rounds <= burst * 3, "round and round");
            match gate.ask(limits, arrival, now) {
                Answer::Send { ticket, pause_ms } => gate.finished(ticket, now + pause_ms),
                Answer::Wait => panic!("nothing is in flight"),
                Answer::Hold { delay_ms, .. } => asking.push((now + delay_ms, Arrival::Due)),
            }
            asking.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        }
    }
}
