//! Each test replaces one rule by a wrong one and shows that the checker finds it: a checker that cannot fail proves
//! nothing. The marked rules of the protocol are all here.

use posthaste::domain::backoff::DelayQueues;
use posthaste::domain::dead_reason::DeadReason;
use posthaste::domain::decision::Decision;
use posthaste::domain::delivery::{self, DropReason, Received, Row, Status, Step, Successor};

use crate::checker::{Model, Scenario, explore};
use crate::faults::Fault;
use crate::reconcile::{Evidence, Marker, Markers, is_lost};
use crate::rules::{Order, RULES, Rules};
use crate::scenarios;
use crate::sweep::Action;
use crate::world::Budget;

#[track_caller]
fn assert_finds(scenario: Scenario, rules: Rules, expected: &str) {
    match explore(&Model::new(scenario, rules)) {
        Ok(explored) => panic!("found nothing in {explored:?}"),
        Err(broken) => {
            println!("{}\n{}", broken.rule, broken.history);
            assert!(broken.rule.starts_with(expected), "found instead: {}\n{}", broken.rule, broken.history);
        }
    }
}

fn with_faults(faults: u8, scenario: Scenario) -> Scenario {
    Scenario { budget: Budget { faults, ..scenario.budget }, ..scenario }
}

/// Nothing goes wrong, and no reconciler repairs what a broken rule does.
fn unreconciled() -> Scenario {
    Scenario { markers: Markers::None, ..scenarios::calm() }
}

/// A reconciler repairs rows: what is left to find are dead letters.
fn reconciled(faults: u8) -> Scenario {
    with_faults(faults, Scenario { markers: Markers::Coarse, ..scenarios::crashes() })
}

/// A worker goes on with a copy that was handed out again, and no reconciler repairs what comes of it.
fn lost_channel() -> Scenario {
    with_faults(1, Scenario { markers: Markers::None, faults: &[Fault::ChannelLost], ..scenarios::losses() })
}

/// Otherwise the tests below would prove nothing. Their other scenarios are parts of ones that are explored elsewhere.
#[test]
fn the_scenarios_of_these_tests_hold_under_the_right_rules() {
    for scenario in [unreconciled(), reconciled(2), lost_channel()] {
        if let Err(broken) = explore(&Model::new(scenario, RULES)) {
            panic!("{}\n{}", broken.rule, broken.history);
        }
    }
}

fn ordered(order: Order) -> Rules {
    Rules { order, ..RULES }
}

#[test]
fn a_redelivered_message_that_is_only_dropped_is_found() {
    fn never(message: Received, row: Option<&Row>, queues: &DelayQueues) -> Step {
        match delivery::receive(message, row, queues) {
            Step::Follow(_) => Step::Drop(DropReason::Stale),
            step => step,
        }
    }
    let rules = Rules { receive: never, ..RULES };
    assert_finds(with_faults(1, scenarios::crashes()), rules, "the row is stuck");
    assert_finds(reconciled(1), rules, "dead without a dead letter");
}

#[test]
fn following_a_message_that_is_not_redelivered_is_found() {
    fn always(message: Received, row: Option<&Row>, queues: &DelayQueues) -> Step {
        delivery::receive(Received { redelivered: true, ..message }, row, queues)
    }
    let rules = Rules { receive: always, ..RULES };
    assert_finds(scenarios::long_lives(), rules, "more than two wasted requests");
}

#[test]
fn a_dead_delivery_whose_letter_is_not_followed_is_found() {
    fn narrow(message: Received, row: Option<&Row>, queues: &DelayQueues) -> Step {
        match row {
            Some(row) if row.status == Status::Dead && message.attempt == row.attempts + 1 => {
                Step::Drop(DropReason::Stale)
            }
            row => delivery::receive(message, row, queues),
        }
    }
    assert_finds(with_faults(2, scenarios::poison()), Rules { receive: narrow, ..RULES }, "dead without a dead letter");
}

#[test]
fn a_first_attempt_published_before_its_commit_is_found() {
    let order = Order { relay_publishes_before_commit: true, ..Order::default() };
    assert_finds(unreconciled(), ordered(order), "more than two wasted requests");
}

#[test]
fn a_release_published_before_its_commit_is_found() {
    let order = Order { release_publishes_before_commit: true, ..Order::default() };
    assert_finds(unreconciled(), ordered(order), "the row is stuck");
}

#[test]
fn a_requeue_published_before_its_commit_is_found() {
    let order = Order { requeue_publishes_before_commit: true, ..Order::default() };
    assert_finds(unreconciled(), ordered(order), "the row is stuck");
}

#[test]
fn an_acknowledgement_before_the_publish_is_found() {
    let order = Order { acknowledge_before_publish: true, ..Order::default() };
    assert_finds(with_faults(1, scenarios::crashes()), ordered(order), "the row is stuck");
}

#[test]
fn a_lost_compare_and_set_that_is_only_acknowledged_is_found() {
    let order = Order { acknowledge_lost_settle: true, ..Order::default() };
    assert_finds(with_faults(2, scenarios::crashes()), ordered(order), "the row is stuck");
    assert_finds(reconciled(2), ordered(order), "dead without a dead letter");
}

#[test]
fn an_answer_that_was_lost_after_its_commit_and_is_forgotten_is_found() {
    let order = Order { forget_lost_answers: true, ..Order::default() };
    assert_finds(with_faults(1, scenarios::crashes()), ordered(order), "the row is stuck");
    assert_finds(reconciled(1), ordered(order), "dead without a dead letter");
}

#[test]
fn giving_up_a_publish_because_the_channel_is_lost_is_found() {
    let order = Order { give_up_publish: true, ..Order::default() };
    assert_finds(lost_channel(), ordered(order), "the row is stuck");
    assert_finds(with_faults(1, scenarios::losses()), ordered(order), "dead without a dead letter");
}

#[test]
fn a_release_by_enabling_alone_is_found() {
    let order = Order { release_when_enabled_only: true, ..Order::default() };
    assert_finds(scenarios::calm(), ordered(order), "the row is stuck");
}

#[test]
fn a_sweep_that_reads_rows_before_it_takes_letters_is_found() {
    let order = Order { sweep_reads_first: true, ..Order::default() };
    assert_finds(scenarios::calm(), ordered(order), "dead without a dead letter");
}

#[test]
fn a_sweep_that_keeps_the_letter_of_an_older_death_is_found() {
    fn any_death(row: Option<&Row>, _: i32, kept: bool) -> Action {
        match row {
            Some(row) if row.status == Status::Dead && !kept => Action::Keep,
            _ => Action::Discard,
        }
    }
    assert_finds(scenarios::calm(), Rules { judge: any_death, ..RULES }, "a calm run leaves one dead letter");
}

#[test]
fn attempts_that_are_reset_by_a_requeue_are_found() {
    fn reset(row: &Row) -> Option<Row> {
        delivery::requeue(row).map(|row| Row { attempts: 0, base_attempts: 0, ..row })
    }
    assert_finds(scenarios::calm(), Rules { requeue: reset, ..RULES }, "attempts must grow");
}

#[test]
fn attempts_that_are_reset_by_a_resend_are_found() {
    fn reset(row: &Row) -> Option<Row> {
        delivery::resend(row).map(|row| Row { attempts: 0, base_attempts: 0, ..row })
    }
    assert_finds(scenarios::calm(), Rules { resend: reset, ..RULES }, "attempts must grow");
}

#[test]
fn a_resend_that_grants_no_attempts_is_found() {
    fn stingy(row: &Row) -> Option<Row> {
        delivery::resend(row).map(|new| Row { base_attempts: row.base_attempts, ..new })
    }
    assert_finds(scenarios::calm(), Rules { resend: stingy, ..RULES }, "delivered became something else");
}

#[test]
fn a_settle_without_the_compare_and_set_is_found() {
    fn blind(row: &Row, n: i32, decision: &Decision, budget: Option<u32>) -> Option<Row> {
        delivery::settle(&Row { attempts: n - 1, ..*row }, n, decision, budget)
    }
    assert_finds(with_faults(1, scenarios::crashes()), Rules { settle: blind, ..RULES }, "a stale message changed");
}

#[test]
fn a_hold_without_the_compare_and_set_is_found() {
    fn blind(row: &Row, _: i32, delay_ms: u64) -> Option<Row> {
        delivery::hold(row, row.attempts + 1, delay_ms)
    }
    assert_finds(with_faults(1, scenarios::losses()), Rules { hold: blind, ..RULES }, "a stale message changed");
}

#[test]
fn a_dead_delivery_that_a_late_failure_brings_back_is_found() {
    fn revive(row: &Row, n: i32, decision: &Decision, budget: Option<u32>) -> Option<Row> {
        let alive = Row { status: Status::Retrying, dead_reason: None, ..*row };
        delivery::settle(if row.status == Status::Dead { &alive } else { row }, n, decision, budget)
    }
    assert_finds(scenarios::poison(), Rules { settle: revive, ..RULES }, "dead came back");
}

#[test]
fn a_ceiling_that_ignores_the_requeue_is_found() {
    fn forgetful(row: &Row, n: i32, decision: &Decision, budget: Option<u32>) -> Option<Row> {
        let settled = delivery::settle(&Row { base_attempts: 0, ..*row }, n, decision, budget)?;
        Some(Row { base_attempts: row.base_attempts, ..settled })
    }
    assert_finds(scenarios::calm(), Rules { settle: forgetful, ..RULES }, "exhausted before every attempt");
}

#[test]
fn a_ceiling_that_is_never_reached_is_found() {
    fn endless(row: &Row, n: i32, decision: &Decision, budget: Option<u32>) -> Option<Row> {
        delivery::settle(&Row { max_attempts: i32::MAX, ..*row }, n, decision, budget)
    }
    assert_finds(scenarios::calm(), Rules { settle: endless, ..RULES }, "more attempts than allowed");
}

#[test]
fn a_death_without_a_letter_is_found() {
    fn silent(row: &Row, queues: &DelayQueues) -> Successor {
        match delivery::successor(row, queues) {
            Successor::DeadLetter { .. } => Successor::Nothing,
            other => other,
        }
    }
    assert_finds(scenarios::calm(), Rules { successor: silent, ..RULES }, "dead without a dead letter");
}

#[test]
fn a_poisoned_delivery_that_is_buried_again_is_found() {
    fn blind(row: &Row, _: i32, reason: DeadReason) -> Option<Row> {
        delivery::mark_dead(row, row.attempts + 1, reason)
    }
    assert_finds(scenarios::poison(), Rules { mark_dead: blind, ..RULES }, "a stale message changed");
}

/// Without faults, a reconciler that is wrong starts a second chain.
fn watched() -> Scenario {
    with_faults(0, scenarios::markers())
}

#[test]
fn a_reconciler_that_ignores_when_a_row_is_due_is_found() {
    fn early(evidence: &Evidence<'_>) -> bool {
        is_lost(&Evidence { due_at: i64::MIN / 2, ..*evidence })
    }
    assert_finds(watched(), Rules { is_lost: early, ..RULES }, "a second chain");
}

#[test]
fn a_reconciler_that_trusts_the_marker_of_the_other_queue_is_found() {
    fn one_queue(evidence: &Evidence<'_>) -> bool {
        is_lost(&Evidence { deliver: evidence.retry, ..*evidence })
    }
    assert_finds(watched(), Rules { is_lost: one_queue, ..RULES }, "a second chain");
}

#[test]
fn a_grace_that_counts_from_the_publishing_of_the_marker_is_found() {
    fn impatient(evidence: &Evidence<'_>) -> bool {
        let since_published =
            |marker: Marker| Marker { recorded_at: marker.recorded_at.map(|_| marker.published_at), ..marker };
        let (retry, deliver) = (since_published(evidence.retry), since_published(evidence.deliver));
        is_lost(&Evidence { retry, deliver, ..*evidence })
    }
    assert_finds(watched(), Rules { is_lost: impatient, ..RULES }, "a second chain");
}

#[test]
fn a_reconciler_that_never_acts_is_found() {
    assert_finds(with_faults(1, scenarios::losses()), Rules { is_lost: |_| false, ..RULES }, "the row is stuck");
}
