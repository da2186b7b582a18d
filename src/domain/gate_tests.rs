use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { max_in_flight: 4, rate: None };
const NEW: Arrival = Arrival::New;
const DUE: Arrival = Arrival::Due;

/// Asks, and begins at once.
fn send(gate: &mut Gate, limits: Limits, arrival: Arrival, now: u64) -> Ticket {
    match gate.ask(limits, arrival, now) {
        Answer::Send { ticket, pause_ms } => {
            gate.begun(ticket, now + pause_ms);
            ticket
        }
        other => panic!("{other:?}"),
    }
}

/// An endpoint that has taken this long for each of its last answers.
fn seasoned(answer_ms: u64) -> (Gate, u64) {
    let mut gate = Gate::default();
    for n in 0..40 {
        let ticket = send(&mut gate, LIMITS, NEW, n * answer_ms);
        gate.finished(ticket, (n + 1) * answer_ms);
    }
    (gate, 40 * answer_ms)
}

#[test]
fn a_burst_to_a_prompt_endpoint_waits_and_is_never_held() {
    let mut gate = Gate::default();
    let mut open = Vec::new();
    for _ in 0..600 {
        match gate.ask(LIMITS, NEW, 0) {
            Answer::Send { ticket, pause_ms: 0 } => open.push(ticket),
            Answer::Wait => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((open.len(), gate.waiting()), (4, 596));
    open.iter().for_each(|ticket| gate.begun(*ticket, 0));
    let mut clock = 0;
    while let Some(ticket) = open.pop() {
        clock += 1;
        gate.finished(ticket, clock);
        if gate.waiting() > 0 {
            match gate.ask_again(LIMITS, NEW, clock, clock) {
                Answer::Send { ticket, .. } => {
                    gate.begun(ticket, clock);
                    open.insert(0, ticket)
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(gate.is_idle(clock));
}

#[test]
fn as_many_wait_as_the_endpoint_takes_in_half_a_second() {
    let crowd = |answer_ms: u64| {
        let (mut gate, now) = seasoned(answer_ms);
        (0..2_000).filter(|_| gate.ask(LIMITS, NEW, now) == Answer::Wait).count()
    };
    assert_eq!(crowd(3), 668, "167 rounds of four, of a little less than 3 ms");
    assert_eq!(crowd(60), 32);
}

#[test]
fn first_answers_that_took_long_hold_nothing_until_more_of_them_do() {
    let waiting_after = |rounds: u64| {
        let mut gate = Gate::default();
        for round in 0..rounds {
            let open: Vec<Ticket> = (0..4).map(|_| send(&mut gate, LIMITS, NEW, round * 60)).collect();
            for ticket in open {
                gate.finished(ticket, (round + 1) * 60);
            }
        }
        for _ in 0..4 {
            send(&mut gate, LIMITS, NEW, rounds * 60);
        }
        (0..400).filter(|_| gate.ask(LIMITS, NEW, rounds * 60) == Answer::Wait).count()
    };
    assert_eq!((waiting_after(1), waiting_after(10)), (400, 32), "connections may have been opened; it takes 60 ms");
}

#[test]
fn an_endpoint_that_hangs_gets_its_excess_held_and_due_at_once() {
    let mut gate = Gate::default();
    for _ in 0..4 {
        send(&mut gate, LIMITS, NEW, 0);
    }
    assert_eq!(gate.ask(LIMITS, NEW, 10), Answer::Wait, "nothing wrong yet");
    let held = |until| Answer::Hold { until, why: Why::InFlight };
    assert_eq!(gate.ask(LIMITS, NEW, 600), held(Until::Now), "the oldest request has been open for too long");
    assert_eq!(gate.ask_again(LIMITS, NEW, 600, 590), held(Until::Now), "and who waits is sent back too");
    assert_eq!(gate.ask(LIMITS, DUE, 600), Answer::Wait, "one that was released waits longer");
    assert_eq!(gate.ask_again(LIMITS, DUE, 2_100, 1_500), held(Until::OwnTime), "but not for ever");
    assert_eq!((gate.in_flight(), gate.waiting()), (4, 0));
}

#[test]
fn patience_ends_whatever_is_expected() {
    let mut gate = Gate::default();
    for _ in 0..4 {
        assert!(matches!(gate.ask(LIMITS, NEW, 0), Answer::Send { .. }));
    }
    assert_eq!(gate.ask(LIMITS, NEW, 0), Answer::Wait);
    assert_eq!(gate.ask_again(LIMITS, NEW, 999, 999), Answer::Wait, "they wait for seats; none has begun");
    assert!(matches!(gate.ask_again(LIMITS, NEW, 1_000, 1_000), Answer::Hold { until: Until::Now, .. }));
}

#[test]
fn waiting_for_a_seat_does_not_make_an_endpoint_look_slow() {
    let mut gate = Gate::default();
    let Answer::Send { ticket, .. } = gate.ask(LIMITS, NEW, 0) else { panic!() };
    assert_eq!((gate.room(true, 5_000), gate.room(false, 5_000)), (Room::Prompt, Room::Unknown));
    gate.begun(ticket, 5_000);
    assert_eq!(
        (gate.room(true, 5_000 + SLOW_MS), gate.room(true, 5_001 + SLOW_MS)),
        (Room::Prompt, Room::Slow),
        "the age of its oldest request"
    );
    gate.finished(ticket, 5_010);
    assert_eq!(gate.room(true, 9_000), Room::Prompt);
}

#[test]
fn slow_after_three_answers_and_prompt_again_after_a_few() {
    let mut gate = Gate::default();
    let mut answer = |ms: u64| {
        let ticket = send(&mut gate, LIMITS, NEW, 0);
        gate.finished(ticket, ms);
        gate.room(true, 0)
    };
    assert_eq!((answer(400), answer(400), answer(400)), (Room::Prompt, Room::Prompt, Room::Slow));
    for _ in 0..40 {
        answer(5_000);
    }
    assert_eq!((1..=7).map(|_| answer(5)).filter(|room| *room == Room::Slow).count(), 5);
}

#[test]
fn above_the_rate_each_held_delivery_gets_its_own_time_and_is_let_through_then() {
    let limits = Limits { max_in_flight: 100, rate: Some(10.0) };
    let mut gate = Gate::default();
    let (mut times, mut open) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        match gate.ask(limits, NEW, 0) {
            Answer::Send { ticket, pause_ms } => open.push((pause_ms, ticket)),
            Answer::Hold { until: Until::In(delay_ms), why: Why::Rate } => times.push(delay_ms),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(open.iter().map(|(pause, _)| *pause).collect::<Vec<_>>(), (0..=5).map(|n| n * 100).collect::<Vec<_>>());
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 100), "{times:?}");
    assert!(times[0] > 500);
    for (_, ticket) in open {
        gate.finished(ticket, 600);
    }
    assert!(!gate.is_idle(600), "promises are kept in mind");
    assert!(matches!(gate.ask(limits, NEW, 1_100), Answer::Hold { .. }), "a new one queues up behind them");
    for at in times {
        match gate.ask(limits, DUE, at) {
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
    let ticket = send(&mut gate, LIMITS, NEW, 0);
    gate.slow_down(ticket, Some(Duration::from_secs(10)), 50);
    gate.finished(ticket, 50);
    match gate.ask(LIMITS, NEW, 60) {
        Answer::Hold { until: Until::In(delay_ms), why: Why::Slowed } => assert!(delay_ms >= 9_990, "{delay_ms}"),
        other => panic!("{other:?}"),
    }
    assert!(matches!(gate.ask(LIMITS, DUE, 10_050), Answer::Send { .. }));
    assert!(!matches!(gate.ask(LIMITS, DUE, 10_051), Answer::Send { pause_ms: 0, .. }), "one in a second now");
}

#[test]
fn a_gate_whose_pauses_were_lifted_remembers_none_of_them() {
    let mut gate = Gate::default();
    assert!(!gate.lift(0), "there is nothing to lift");
    let ticket = send(&mut gate, LIMITS, NEW, 0);
    gate.slow_down(ticket, Some(Duration::from_secs(600)), 50);
    gate.finished(ticket, 50);
    assert!(matches!(gate.ask(LIMITS, NEW, 60), Answer::Hold { .. }));
    assert!(matches!(gate.limited(60), Some(Limited { by: Why::Slowed, since_ms: 50, until_ms: 600_051.. })));
    assert!(gate.lift(70) && gate.limited(70).is_none() && gate.is_idle(70));
    assert!(matches!(gate.ask(LIMITS, NEW, 80), Answer::Send { pause_ms: 0, .. }));

    let (limits, mut gate) = (Limits { rate: Some(1.0), ..LIMITS }, Gate::default());
    send(&mut gate, limits, NEW, 0);
    assert!(matches!(gate.ask(limits, NEW, 10), Answer::Hold { until: Until::In(_), why: Why::Rate }));
    assert!(matches!(gate.limited(20), Some(Limited { by: Why::Rate, since_ms: 10, until_ms: 1_010.. })));
    assert!(gate.lift(20) && gate.limited(20).is_none());
    assert!(matches!(gate.ask(limits, NEW, 900), Answer::Send { pause_ms: 100, .. }), "the rate itself stays");
}

proptest! {
    /// Whatever is asked, begun and finished in whatever order: no more than the limit is in flight, nobody waits for
    /// longer than its patience, and the books balance.
    #[test]
    fn bounds_hold_and_nothing_is_counted_twice(
        max_in_flight in 1usize..6,
        rate in prop::option::of(0.5f64..100.0),
        steps in prop::collection::vec((0u8..6, 0u64..2_500, any::<bool>()), 1..200),
    ) {
        let limits = Limits { max_in_flight, rate };
        let mut gate = Gate::default();
        let (mut now, mut open, mut waiting) = (0u64, Vec::new(), 0usize);
        for (step, pause, due) in steps {
            now += pause;
            let arrival = if due { DUE } else { NEW };
            match step {
                0 | 1 => match gate.ask(limits, arrival, now) {
                    Answer::Send { ticket, pause_ms } => {
                        prop_assert!(pause_ms <= arrival.worth_ms());
                        open.push(ticket)
                    }
                    Answer::Wait => waiting += 1,
                    Answer::Hold { until: Until::In(ms), why } => {
                        prop_assert!(why != Why::InFlight && (1_000..=3_600_000).contains(&ms));
                    }
                    Answer::Hold { until, .. } => prop_assert_eq!(until, busy(arrival)),
                },
                2 if !open.is_empty() => {
                    gate.finished(open.remove(0), now);
                }
                3 if !open.is_empty() => {
                    gate.slow_down(open[0], None, now);
                    gate.finished(open.remove(0), now);
                }
                4 if waiting > 0 => match gate.ask_again(limits, arrival, now, pause) {
                    Answer::Send { ticket, .. } => { waiting -= 1; open.push(ticket) }
                    Answer::Wait => prop_assert!(pause < arrival.patience().as_millis() as u64),
                    Answer::Hold { .. } => waiting -= 1,
                },
                5 if !open.is_empty() => gate.begun(open[pause as usize % open.len()], now),
                _ => {}
            }
            if step == 4 && waiting < gate.waiting() { prop_assert!(false, "counted twice"); }
            prop_assert_eq!((gate.in_flight(), gate.waiting()), (open.len(), waiting));
            prop_assert!(open.len() <= max_in_flight);
        }
    }

    /// Whoever is held comes through when asking again at its time, if the endpoint answers at once: nothing is held for
    /// ever.
    #[test]
    fn everything_comes_through_in_the_end(rate in prop::option::of(1.0f64..200.0), burst in 1usize..300) {
        let limits = Limits { max_in_flight: 4, rate };
        let mut gate = Gate::default();
        let mut asking: Vec<(u64, Arrival)> = vec![(0, NEW); burst];
        let mut rounds = 0;
        while let Some((now, arrival)) = asking.pop() {
            rounds += 1;
            prop_assert!(rounds <= burst * 3, "round and round");
            match gate.ask(limits, arrival, now) {
                Answer::Send { ticket, pause_ms } => {
                    gate.begun(ticket, now + pause_ms);
                    gate.finished(ticket, now + pause_ms);
                }
                Answer::Wait => panic!("nothing is in flight"),
                Answer::Hold { until: Until::In(delay_ms), .. } => asking.push((now + delay_ms, DUE)),
                Answer::Hold { .. } => panic!("nothing is in flight"),
            }
            asking.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        }
    }
}
