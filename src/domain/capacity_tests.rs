use proptest::prelude::*;

use super::costs::{self, ALL};
use super::demand::{BUSY, Demand, demand};
use super::limits::Scope;
use super::load::{Load, Machine, Settings};
use super::plan::plan;

const DOCUMENT: &str = include_str!("../../docs/capacity.md");

fn load() -> Load {
    Load {
        events_per_second: 2_000.0,
        events_per_day: 2_000.0 * 86_400.0,
        events_per_transaction: 1.0,
        deliveries_per_event: 1.0,
        endpoints: 5_000.0,
        payload_bytes: 1_024.0,
        failing_share: 0.01,
        answer_ms: 100.0,
        retention_days: 30.0,
        largest_share: 0.002,
    }
}

fn settings() -> Settings {
    Settings {
        delays_s: vec![30.0, 120.0, 600.0, 3_600.0],
        queues: 67,
        queue_handles: 201,
        max_connections: 16.0,
        other_files: 2_304.0,
        released_in_a_tick: 500,
    }
}

const MACHINE: Machine = Machine { cores: 32.0, disk_bytes: 16.0 * 1024.0 * 1024.0 * 1024.0 * 1024.0, core_speed: 1.0 };

fn needed(load: &Load) -> Demand {
    demand(load, &settings(), &MACHINE)
}

#[test]
fn every_cost_is_documented_as_it_is() {
    for cost in ALL {
        let row = format!("| `{}` | {} | {} |", cost.name, cost.value, cost.unit);
        assert!(DOCUMENT.contains(&row), "docs/capacity.md has no row that begins with {row}");
    }
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `") && line.split(" | ").count() == 4).count();
    assert_eq!(rows, ALL.len(), "rows of the table of costs");
}

#[test]
fn retries_follow_from_the_share_that_fails_and_the_schedule() {
    let half = Load { events_per_second: 100.0, failing_share: 0.5, ..load() };
    let rates = half.rates(&[10.0, 20.0]);
    assert_eq!((rates.deliveries, rates.retries, rates.attempts), (100.0, 75.0, 175.0));
    assert_eq!(rates.waiting, 50.0 * 10.0 + 25.0 * 20.0);
    let all = Load { failing_share: 1.0, ..half.clone() };
    assert_eq!(all.attempts(&[10.0, 20.0]), 3.0, "the first one and two retries");
    assert_eq!(Load { deliveries_per_event: 0.0, ..half }.rates(&[10.0]).attempts, 0.0, "nobody listens");
}

#[test]
fn a_relay_and_a_worker_more_than_needed_survive_the_loss_of_one() {
    let little = needed(&Load { events_per_second: 0.1, events_per_day: 1_000.0, ..load() });
    assert_eq!((little.relay.processes, little.worker.processes), (2.0, 2.0));
    assert_eq!((little.concurrency, little.max_in_flight), (1_440.0, 32.0), "the defaults will do");
}

#[test]
fn an_event_that_is_alone_costs_what_was_measured_at_a_light_load() {
    let light = Load { events_per_second: 200.0, events_per_day: 200.0, failing_share: 0.0, ..load() };
    let demand = needed(&light);
    let ms = (demand.relay.busy_cores
        + demand.worker.busy_cores
        + demand.postgresql.busy_cores
        + demand.rabbitmq.busy_cores)
        * 5.0;
    assert!((1.0..2.0).contains(&ms), "1.42 ms of all parts, in docs/isolation.md: {ms}");
}

#[test]
fn what_one_server_cannot_hold_is_divided() {
    let billion =
        Load { events_per_second: 11_575.0, events_per_day: 1e9, endpoints: 100_000.0, largest_share: 1e-4, ..load() };
    let planned = plan(&billion, &settings(), &MACHINE);
    let count = planned.installations.expect("some number will do");
    let first = planned.limits.iter().find(|limit| limit.scope == Scope::Installation).unwrap();
    assert_eq!(first.name, "disk of PostgreSQL");
    assert_eq!(f64::from(count), first.share().ceil(), "as many as the nearest limit makes");
    assert!(planned.demand.postgresql.disk_bytes <= MACHINE.disk_bytes);
    let short = Load { retention_days: 1.0, ..billion };
    assert!(plan(&short, &settings(), &MACHINE).installations.unwrap() < count, "a shorter history is a smaller one");
}

#[test]
fn a_tenant_that_is_too_large_for_one_is_not_divided() {
    let one = Load { events_per_second: 100_000.0, events_per_day: 1e6, largest_share: 0.9, ..load() };
    assert_eq!(plan(&one, &settings(), &MACHINE).installations, None);
}

#[test]
fn one_installation_carries_what_it_says_and_no_more() {
    let week = Load { retention_days: 7.0, ..load() };
    let planned = plan(&week, &settings(), &MACHINE);
    assert_eq!(planned.installations, Some(1));
    let at = |factor: f64| {
        let rate = planned.most_events_per_second * factor;
        let scaled = Load { events_per_second: rate, events_per_day: rate * 86_400.0, ..week.clone() };
        plan(&scaled, &settings(), &MACHINE).installations
    };
    assert_eq!((at(0.999), at(1.001)), (Some(1), Some(2)));
}

#[test]
fn cores_that_are_twice_as_fast_are_half_as_busy() {
    let fast = demand(&load(), &settings(), &Machine { core_speed: 2.0, ..MACHINE });
    assert_eq!(fast.postgresql.busy_cores * 2.0, needed(&load()).postgresql.busy_cores);
    assert!(fast.postgresql.cores * BUSY >= fast.postgresql.busy_cores);
}

/// All that a load needs of one installation.
fn figures(load: &Load) -> Vec<f64> {
    let demand = needed(load);
    let parts = [demand.relay, demand.worker, demand.postgresql, demand.rabbitmq];
    let mut figures: Vec<f64> = parts.iter().flat_map(|part| [part.processes * part.cores, part.busy_cores]).collect();
    figures.extend([demand.postgresql.disk_bytes, demand.postgresql.memory_bytes]);
    figures.extend([demand.rabbitmq.disk_bytes, demand.rabbitmq.memory_bytes]);
    figures.extend([demand.concurrency, demand.max_in_flight, demand.worker_files, demand.sessions]);
    figures.extend([demand.rabbitmq_handles, demand.history_bytes, demand.wal_bytes_per_day]);
    figures.extend([demand.network.to_receivers, demand.network.to_rabbitmq, demand.network.to_postgresql]);
    figures
}

fn any_load() -> impl Strategy<Value = Load> {
    let sizes = (0.01f64..50_000.0, 0.0f64..20.0, 1.0f64..1e6, 2.0f64..1e6);
    let rest = (0.0f64..1.0, 0.0f64..30_000.0, 1.0f64..400.0, 1.0f64..100.0, 0.0f64..1.0);
    (sizes, rest).prop_map(|((rate, each, endpoints, bytes), (failing, answer, days, together, largest))| Load {
        events_per_second: rate,
        events_per_day: rate * 86_400.0,
        events_per_transaction: together,
        deliveries_per_event: each,
        endpoints,
        payload_bytes: bytes,
        failing_share: failing,
        answer_ms: answer,
        retention_days: days,
        largest_share: largest.max(1.0 / endpoints),
    })
}

/// The same load with more of one thing.
fn grown(load: &Load, what: usize, factor: f64) -> Load {
    let mut more = load.clone();
    match what {
        0 => {
            (more.events_per_second, more.events_per_day) =
                (more.events_per_second * factor, more.events_per_day * factor)
        }
        1 => more.deliveries_per_event *= factor,
        2 => more.payload_bytes *= factor,
        3 => more.failing_share = (more.failing_share * factor).min(1.0),
        4 => more.answer_ms *= factor,
        5 => more.retention_days *= factor,
        6 => more.events_per_transaction = (more.events_per_transaction / factor).max(1.0),
        _ => more.largest_share = (more.largest_share * factor).min(1.0),
    }
    more
}

proptest! {
    #[test]
    fn more_load_never_needs_less(load in any_load(), what in 0usize..8, factor in 1.0f64..10.0) {
        let more = grown(&load, what, factor);
        for (number, (before, after)) in figures(&load).into_iter().zip(figures(&more)).enumerate() {
            prop_assert!(after >= before * (1.0 - 1e-9), "figure {number}: {before} became {after}");
        }
    }

    #[test]
    fn more_load_never_needs_fewer_installations(load in any_load(), what in 0usize..8, factor in 1.0f64..10.0) {
        let count = |load: &Load| plan(load, &settings(), &MACHINE).installations.unwrap_or(u32::MAX);
        prop_assert!(count(&grown(&load, what, factor)) >= count(&load));
    }

    #[test]
    fn each_of_the_installations_is_within_its_limits(load in any_load()) {
        let planned = plan(&load, &settings(), &MACHINE);
        if planned.installations.is_some() {
            let demand = planned.demand;
            prop_assert!(demand.postgresql.busy_cores / BUSY <= MACHINE.cores * (1.0 + 1e-9));
            prop_assert!(demand.postgresql.disk_bytes <= MACHINE.disk_bytes * (1.0 + 1e-9));
            prop_assert!(demand.rates.deliveries <= costs::QUEUE_MESSAGES * BUSY * (1.0 + 1e-9));
        }
    }
}
