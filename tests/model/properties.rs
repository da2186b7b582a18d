//! The rules one by one, over random rows, messages and decisions.

use posthaste::domain::backoff::DelayQueues;
use posthaste::domain::dead_reason::DeadReason;
use posthaste::domain::decision::{Decision, Parked, decide};
use posthaste::domain::delivery::{
    Received, Row, Status, Step, Successor, hold, is_exhausted, mark_dead, receive, release, requeue, settle, successor,
};
use posthaste::domain::ids::DeliveryKey;
use proptest::prelude::*;
use uuid::Uuid;

use crate::checker::{outcome, policy};
use crate::world::Answer;

fn queues() -> DelayQueues {
    DelayQueues::new([1_000, 30_000, 120_000])
}

/// Rows as they can be: due while unfinished, with a reason only while dead.
fn rows() -> impl Strategy<Value = Row> {
    let status = prop::sample::select(Status::ALL.to_vec());
    let reason = prop::sample::select(DeadReason::ALL.to_vec());
    (status, 0..12i32, 0..12i32, 1..6i32, -200_000..200_000i64, reason).prop_map(
        |(status, attempts, base, max_attempts, due, reason)| Row {
            status,
            attempts,
            base_attempts: base.min(attempts),
            max_attempts,
            due_in_ms: (!matches!(status, Status::Delivered | Status::Dead)).then_some(due),
            dead_reason: (status == Status::Dead).then_some(reason),
        },
    )
}

/// Decisions that are settled. A fault of ours is held instead.
fn decisions() -> impl Strategy<Value = Decision> {
    prop_oneof![
        Just(Decision::Delivered),
        prop::sample::select(DeadReason::ALL.to_vec()).prop_map(Decision::Dead),
        (1..200_000u64).prop_map(|delay_ms| Decision::Retry { delay_ms }),
        (1..9_000_000u64).prop_map(|delay_ms| Decision::Park { delay_ms, why: Parked::RetryAfter }),
    ]
}

fn messages() -> impl Strategy<Value = Received> {
    (1..14i32, any::<bool>(), any::<bool>(), 0..20u32).prop_map(|(attempt, redelivered, first, delivery_count)| {
        Received { attempt, redelivered, first, delivery_count }
    })
}

/// An attempt near the row's next one.
fn near(row: Row, off: i32) -> i32 {
    row.attempts + 1 + off
}

proptest! {
    #[test]
    fn settling_records_one_attempt_or_nothing(row in rows(), off in -2..3i32, decision in decisions(),
                                               budget in prop::option::of(1..4u32)) {
        let n = near(row, off);
        let settled = settle(&row, n, &decision, budget);
        prop_assert_eq!(settled.is_some(), off == 0 && row.status != Status::Delivered && !row.is_erased());
        let Some(new) = settled else { return Ok(()) };
        prop_assert_eq!(new.attempts, n);
        prop_assert_eq!((new.base_attempts, new.max_attempts), (row.base_attempts, row.max_attempts));
        prop_assert_eq!(new.status == Status::Delivered, decision == Decision::Delivered);
        prop_assert_eq!(new.dead_reason.is_some(), new.status == Status::Dead);
        prop_assert_eq!(new.due_in_ms.is_some(), matches!(new.status, Status::Retrying | Status::Held));
        prop_assert!(new.status != Status::Pending);
        if matches!(new.status, Status::Retrying | Status::Held) {
            prop_assert!(!is_exhausted(&new, budget), "no attempt is left");
            prop_assert!(row.status != Status::Dead, "dead stays dead");
        }
        if new.dead_reason == Some(DeadReason::Exhausted) && row.status != Status::Dead {
            prop_assert!(is_exhausted(&new, budget) || decision == Decision::Dead(DeadReason::Exhausted));
        }
    }

    #[test]
    fn settling_twice_records_once(row in rows(), decision in decisions(), again in decisions()) {
        let n = near(row, 0);
        if let Some(new) = settle(&row, n, &decision, None) {
            prop_assert_eq!(settle(&new, n, &again, None), None);
            prop_assert_eq!(hold(&new, n, 1), None);
            prop_assert_eq!(mark_dead(&new, n, DeadReason::Poison), None);
        }
    }

    #[test]
    fn a_budget_only_lowers_the_ceiling(row in rows(), budget in 1..5u32) {
        prop_assert!(!is_exhausted(&row, None) || is_exhausted(&row, Some(budget)));
        let made = row.attempts - row.base_attempts;
        prop_assert_eq!(is_exhausted(&Row { max_attempts: i32::MAX, ..row }, Some(budget)), made > budget as i32);
    }

    #[test]
    fn what_spends_no_attempt_changes_no_count(row in rows(), off in -2..3i32, delay_ms in 0..100_000u64) {
        let n = near(row, off);
        let live = off == 0 && matches!(row.status, Status::Pending | Status::Retrying);
        let held = hold(&row, n, delay_ms);
        let dead = mark_dead(&row, n, DeadReason::Poison);
        prop_assert_eq!((held.is_some(), dead.is_some()), (live, live));
        prop_assert_eq!(release(&row).is_some(), row.status == Status::Held);
        for new in [held, dead, release(&row)].into_iter().flatten() {
            prop_assert_eq!((new.attempts, new.base_attempts), (row.attempts, row.base_attempts));
        }
        prop_assert_eq!(requeue(&row).is_some(), row.status == Status::Dead && !row.is_erased());
        if let Some(new) = requeue(&row) {
            prop_assert_eq!((new.status, new.attempts, new.base_attempts), (Status::Pending, row.attempts, row.attempts));
            prop_assert!(!is_exhausted(&new, None), "a requeue grants attempts");
        }
    }

    #[test]
    fn a_message_is_followed_only_when_redelivered_and_sent_only_when_asked_for(message in messages(), row in rows()) {
        let step = receive(message, Some(&row), &queues());
        let live = matches!(row.status, Status::Pending | Status::Retrying);
        prop_assert_eq!(step == Step::Proceed, live && message.attempt == row.attempts + 1);
        if let Step::Follow(next) = step {
            prop_assert!(message.redelivered);
            prop_assert!(message.attempt >= row.attempts);
            prop_assert_eq!(next, successor(&row, &queues()));
            prop_assert!(next != Successor::Nothing);
        }
        prop_assert_eq!(receive(message, None, &queues()), Step::AwaitRow);
    }

    #[test]
    fn what_follows_asks_for_the_next_attempt_and_is_never_early(row in rows()) {
        match successor(&row, &queues()) {
            Successor::Delay { attempt, ms } => {
                prop_assert_eq!((row.status, attempt), (Status::Retrying, row.attempts + 1));
                let due = row.due_in_ms.unwrap_or(0);
                prop_assert!(due > 0 && (ms as i64 >= due || Some(ms) == queues().longest()));
            }
            Successor::Retry { attempt } => {
                prop_assert_eq!((row.status, attempt), (Status::Retrying, row.attempts + 1));
                prop_assert!(row.due_in_ms.is_some_and(|due| due <= 0));
            }
            Successor::DeadLetter { attempts } => {
                prop_assert_eq!((row.status, attempts), (Status::Dead, row.attempts));
            }
            Successor::Nothing => {
                let nothing = matches!(row.status, Status::Pending | Status::Held | Status::Delivered);
                prop_assert!(nothing || row.is_erased());
            }
        }
    }
}

/// The checker leaves out how many attempts were made since a requeue: it changes how long to wait, not what happens.
#[test]
fn the_number_of_attempts_made_does_not_change_the_kind_of_a_decision() {
    let (policy, key) = (policy(), DeliveryKey { event_id: Uuid::nil(), endpoint_id: Uuid::nil() });
    let queues = DelayQueues::new(policy.delays_ms());
    for answer in Answer::ALL {
        let kind = |n, made| std::mem::discriminant(&decide(&outcome(answer), key, n, made, &policy, &queues));
        for n in 1..8 {
            assert!((1..8).all(|made| kind(n, made) == kind(1, 1)), "{answer:?}");
        }
    }
}
