use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits { max_in_flight: 4, max_waiting: 64 };

#[test]
fn a_burst_to_a_prompt_endpoint_waits_and_is_never_held() {
    let mut gate = Gate::default();
    let mut open = Vec::new();
    for _ in 0..60 {
        match gate.ask(LIMITS, 0) {
            Answer::Send(ticket) => open.push(ticket),
            Answer::Wait => {}
            Answer::Hold { .. } => panic!("held"),
        }
    }
    assert_eq!((open.len(), gate.waiting()), (4, 56));
    let mut clock = 0;
    while let Some(ticket) = open.pop() {
        clock += 2;
        gate.finished(ticket, clock);
        if gate.waiting() > 0 {
            match gate.ask_again(LIMITS, clock, clock) {
                Answer::Send(ticket) => open.insert(0, ticket),
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(gate.is_idle());
}

#[test]
fn an_endpoint_that_hangs_gets_its_excess_held() {
    let mut gate = Gate::default();
    for _ in 0..4 {
        assert!(matches!(gate.ask(LIMITS, 0), Answer::Send(_)));
    }
    assert_eq!(gate.ask(LIMITS, 10), Answer::Wait, "nothing wrong yet");
    assert!(matches!(gate.ask(LIMITS, 2_100), Answer::Hold { .. }), "the oldest request has been open for too long");
    assert!(matches!(gate.ask_again(LIMITS, 2_100, 2_090), Answer::Hold { .. }), "and who waits is sent back too");
    assert_eq!((gate.in_flight(), gate.waiting()), (4, 0));
}

proptest! {
    /// Whatever is asked and finished in whatever order, the bounds hold and the books balance.
    #[test]
    fn bounds_hold_and_nothing_is_counted_twice(
        max_in_flight in 1usize..6,
        max_waiting in 0usize..6,
        steps in prop::collection::vec((0u8..3, 0u64..2_500), 1..200),
    ) {
        let limits = Limits { max_in_flight, max_waiting };
        let mut gate = Gate::default();
        let (mut now, mut open, mut waiting) = (0u64, Vec::new(), 0usize);
        for (step, pause) in steps {
            now += pause;
            match step {
                0 => match gate.ask(limits, now) {
                    Answer::Send(ticket) => open.push(ticket),
                    Answer::Wait => waiting += 1,
                    Answer::Hold { delay_ms } => prop_assert!((1_000..=30_000).contains(&delay_ms)),
                },
                1 if !open.is_empty() => gate.finished(open.remove(0), now),
                2 if waiting > 0 => match gate.ask_again(limits, now, pause) {
                    Answer::Send(ticket) => { waiting -= 1; open.push(ticket) }
                    Answer::Wait => {}
                    Answer::Hold { .. } => waiting -= 1,
                },
                _ => {}
            }
            prop_assert_eq!((gate.in_flight(), gate.waiting()), (open.len(), waiting));
            prop_assert!(open.len() <= max_in_flight && waiting <= max_waiting);
        }
    }
}
