//! The protocol of one delivery, checked over every history of a small world.
//!
//! The checker drives the project's own rules (`domain::delivery`, `domain::decision`): one delivery, two workers, every
//! point between two effects, and a few faults at any of them. It finds every state that can be reached and checks the
//! invariants in each. Tests that replace one rule by a wrong one prove that it would find the mistake.

#[path = "model/checker.rs"]
mod checker;
#[path = "model/faults.rs"]
mod faults;
#[path = "model/invariants.rs"]
mod invariants;
#[path = "model/mutants.rs"]
mod mutants;
#[path = "model/properties.rs"]
mod properties;
#[path = "model/reconcile.rs"]
mod reconcile;
#[path = "model/relay.rs"]
mod relay;
#[path = "model/rules.rs"]
mod rules;
#[path = "model/scenarios.rs"]
mod scenarios;
#[path = "model/sweep.rs"]
mod sweep;
#[path = "model/worker.rs"]
mod worker;
#[path = "model/world.rs"]
mod world;

use checker::{Explored, Model, Scenario, explore};
use posthaste::domain::dead_reason::DeadReason;
use posthaste::domain::delivery::Status;
use rules::RULES;
use sweep::alone;
use world::{Due, Slot, Stored};

#[track_caller]
fn assert_holds(scenario: Scenario) {
    let name = scenario.name;
    match explore(&Model::new(scenario, RULES)) {
        Ok(Explored { states, moves, rests, took }) => {
            println!("{name}: {states} states, {moves} moves, {rests} states of rest in {took:.1?}");
        }
        Err(broken) => panic!("{name}: {}\n{}", broken.rule, broken.history),
    }
}

#[test]
fn a_calm_run_makes_one_request_for_each_attempt_and_one_letter_for_each_death() {
    assert_holds(scenarios::calm());
}

#[test]
fn crashes_of_workers_strand_nothing_and_start_no_second_chain() {
    assert_holds(scenarios::crashes());
}

#[test]
fn poison_ends_as_a_dead_letter() {
    assert_holds(scenarios::poison());
}

#[test]
fn crashes_of_relays_and_of_the_database_lose_no_event() {
    assert_holds(scenarios::relays());
}

#[test]
fn what_the_broker_loses_and_what_is_held_comes_back() {
    assert_holds(scenarios::losses());
}

#[test]
fn requeues_can_be_killed_and_run_again() {
    assert_holds(scenarios::requeues());
}

#[test]
fn a_retry_before_its_time_costs_no_more_than_a_doubled_copy() {
    assert_holds(scenarios::early_retries());
}

#[test]
fn a_fault_does_not_echo_through_a_long_life() {
    assert_holds(scenarios::long_lives());
}

#[test]
fn markers_find_what_is_lost_and_nothing_else() {
    assert_holds(scenarios::markers());
}

/// Whatever dead letters are there: missing, doubled, of an older death or of a delivery that is not dead.
#[test]
fn a_sweep_leaves_one_letter_for_a_dead_delivery_and_none_for_another() {
    let model = Model::new(scenarios::calm(), RULES);
    for status in Status::ALL {
        for attempts in 0..3 {
            let reason = (status == Status::Dead).then_some(DeadReason::Exhausted);
            let row = Stored { status, attempts, base: 0, due: Due::Never, reason };
            for dead_letters in 0..27 {
                let counts = [dead_letters % 3, dead_letters / 3 % 3, dead_letters / 9];
                for broker in alone(&model, row, counts) {
                    let right = broker.count(Slot::DeadLetter { attempts }) == u8::from(status == Status::Dead);
                    assert!(right && broker.dead_letters() <= 1, "{row:?} with {counts:?}: {broker:?}");
                }
            }
        }
    }
}
