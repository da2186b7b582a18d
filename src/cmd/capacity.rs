//! `capacity`: what a load needs, computed from measured costs. Asks no server.

use serde::Serialize;

use super::failure::{Failure, Outcome};
use super::{compose, open_files, output};
use crate::cli;
use crate::config::Config;
use crate::domain::capacity::costs;
use crate::domain::capacity::demand::{BUSY, Demand, GIB, MIB, Part};
use crate::domain::capacity::limits::{Limit, Scope};
use crate::domain::capacity::load::{Load, Machine, Settings};
use crate::domain::capacity::plan::{Plan, plan};
use crate::store::release;

const TIB: f64 = 1024.0 * GIB;
const SECONDS_OF_A_DAY: f64 = 86_400.0;
/// The largest endpoint gets so many times what the others get, unless something else is said.
const LARGEST: f64 = 10.0;
/// Limits that are shown.
const SHOWN: usize = 5;

#[derive(Serialize)]
struct Report<'a> {
    load: &'a Load,
    machine: Machine,
    #[serde(flatten)]
    plan: &'a Plan,
    costs: &'a [costs::Cost],
}

pub fn run(config: &Config, args: &cli::Capacity) -> Outcome {
    let load = load(config, args)?;
    let machine =
        Machine { cores: args.machine_cores, disk_bytes: args.machine_disk_tib * TIB, core_speed: args.core_speed };
    let plan = plan(&load, &settings(config), &machine);
    if args.output.json {
        return output::json(&Report { load: &load, machine, plan: &plan, costs: costs::ALL });
    }
    show(&load, &plan)
}

fn load(config: &Config, args: &cli::Capacity) -> Result<Load, Failure> {
    let all_day = args.events_per_second * SECONDS_OF_A_DAY;
    let events_per_day = args.events_per_day.unwrap_or(all_day);
    if events_per_day > all_day {
        return Err(Failure::Usage(format!(
            "--events-per-day: {} are more than a day has at {} a second; raise --events-per-second to {} at least",
            figure(events_per_day),
            figure(args.events_per_second),
            figure((events_per_day / SECONDS_OF_A_DAY).ceil()),
        )));
    }
    let least = 1.0 / args.endpoints;
    let largest_share = args.largest_share.unwrap_or((LARGEST * least).min(1.0));
    if largest_share < least {
        return Err(Failure::Usage(format!(
            "--largest-share: {largest_share} is less than an equal part of {} endpoints; use {least} at least",
            figure(args.endpoints),
        )));
    }
    Ok(Load {
        events_per_second: args.events_per_second,
        events_per_day,
        events_per_transaction: args.events_per_transaction,
        deliveries_per_event: args.deliveries_per_event,
        endpoints: args.endpoints,
        payload_bytes: args.payload_bytes,
        failing_share: args.failing_share,
        answer_ms: args.answer_ms,
        retention_days: args.retention_days.unwrap_or(f64::from(config.retention.days)),
        largest_share,
    })
}

fn settings(config: &Config) -> Settings {
    let (topology, policy) = (compose::topology(config), config.retry.default_policy());
    let retries = policy.retries(policy.budget) as usize;
    Settings {
        delays_s: policy.schedule_ms().take(retries).map(|ms| ms as f64 / 1e3).collect(),
        queues: topology.queues.len(),
        queue_handles: topology.file_handles(),
        max_connections: f64::from(config.database.max_connections),
        other_files: open_files::BESIDE_REQUESTS as f64,
        released_in_a_tick: release::MOST,
    }
}

fn show(load: &Load, plan: &Plan) -> Outcome {
    output::line(&introduction(load))?;
    output::line(&format!("\n{}\n", installations(plan)))?;
    parts(&plan.demand)?;
    output::line("")?;
    output::pairs(&figures(load, &plan.demand))?;
    output::line("\nLimits of one installation with the whole load, the nearest first:\n")?;
    let rows = plan.limits.iter().take(SHOWN).map(|limit| {
        let share = format!("{:.0} %", limit.share() * 100.0);
        vec![limit.name.into(), amount(limit, limit.needed), amount(limit, limit.at_most), share, limit.advice.into()]
    });
    output::table(&["limit", "needed", "at most", "used", "what helps"], rows)
}

fn introduction(load: &Load) -> String {
    format!(
        "{} events/s ({} a day), deliveries of an event: {}, {} endpoints, payloads of {} bytes,\n{} % of the attempts fail, answers in {} ms, history of {} days",
        figure(load.events_per_second),
        figure(load.events_per_day),
        figure(load.deliveries_per_event),
        figure(load.endpoints),
        figure(load.payload_bytes),
        figure(load.failing_share * 100.0),
        figure(load.answer_ms),
        figure(load.retention_days),
    )
}

fn installations(plan: &Plan) -> String {
    let first = plan.limits.iter().find(|limit| limit.scope == Scope::Installation);
    let first = first.map_or("", |limit| limit.name);
    let most = figure(round_down(plan.most_events_per_second));
    match plan.installations {
        Some(1) => {
            format!("One installation, which carries up to {most} events/s of this kind. The first limit: {first}.")
        }
        Some(count) => format!(
            "{count} installations, since one carries {most} events/s of this kind. The first limit: {first}.\nEach of them:"
        ),
        None => format!(
            "No number of installations: the largest endpoint alone is too much for one, which carries {most} events/s of this kind.\nThe first limit: {first}. All on one:"
        ),
    }
}

fn parts(demand: &Demand) -> Outcome {
    let row = |name: &str, part: &Part| {
        let disk = if part.disk_bytes > 0.0 { bytes(part.disk_bytes) } else { "-".to_owned() };
        let numbers = [figure(part.processes), figure(part.cores), format!("{:.2}", part.busy_cores)];
        [name.to_owned()].into_iter().chain(numbers).chain([bytes(part.memory_bytes), disk]).collect::<Vec<_>>()
    };
    let rows = [
        row("relay", &demand.relay),
        row("worker", &demand.worker),
        row("PostgreSQL", &demand.postgresql),
        row("RabbitMQ", &demand.rabbitmq),
    ];
    output::table(&["part", "processes", "cores of each", "busy in all", "memory of each", "disk"], rows)
}

fn figures(load: &Load, demand: &Demand) -> Vec<(&'static str, String)> {
    let network = &demand.network;
    let pair = |to: f64, from: f64| format!("{} to, {} from", bits(to), bits(from));
    vec![
        ("worker.concurrency", figure(demand.concurrency)),
        ("--max-in-flight of the largest endpoint", figure(demand.max_in_flight)),
        ("retention.days", figure(load.retention_days)),
        ("max_connections of PostgreSQL, at least", figure(demand.sessions)),
        ("queues", figure(demand.queues)),
        ("file handles of RabbitMQ 3, at least", figure(demand.rabbitmq_handles)),
        ("open files of a worker, up to", figure(demand.worker_files)),
        ("history, a day", bytes(demand.history_bytes_per_day)),
        ("history, in all", bytes(demand.history_bytes)),
        ("write-ahead log, a day", bytes(demand.wal_bytes_per_day)),
        ("write-ahead log, a second", bytes(demand.wal_bytes_per_second)),
        ("attempts, a second", figure(round(demand.rates.attempts))),
        ("retries that wait in RabbitMQ", figure(demand.rates.waiting.ceil())),
        ("network, receivers", pair(network.to_receivers, network.from_receivers)),
        ("network, RabbitMQ", pair(network.to_rabbitmq, network.from_rabbitmq)),
        ("network, PostgreSQL", pair(network.to_postgresql, network.from_postgresql)),
        ("cores are planned to be busy", format!("{:.0} %", BUSY * 100.0)),
    ]
}

fn amount(limit: &Limit, value: f64) -> String {
    format!("{} {}", if value < 100.0 { format!("{value:.1}") } else { figure(value.ceil()) }, limit.unit)
}

fn bytes(value: f64) -> String {
    match value {
        tib if tib >= TIB => format!("{:.1} TiB", tib / TIB),
        gib if gib >= GIB => format!("{:.1} GiB", gib / GIB),
        mib => format!("{:.1} MiB", mib / MIB),
    }
}

fn bits(value: f64) -> String {
    if value >= 1e9 { format!("{:.1} Gbit/s", value / 1e9) } else { format!("{:.1} Mbit/s", value / 1e6) }
}

fn round(value: f64) -> f64 {
    if value < 100.0 { (value * 10.0).round() / 10.0 } else { value.round() }
}

/// To two digits: more are not known.
fn round_down(value: f64) -> f64 {
    // It was found by halving, and may be below by a hair.
    let value = value * (1.0 + 1e-9);
    let digit = 10f64.powf(value.max(1.0).log10().floor() - 1.0);
    (value / digit).floor() * digit
}

/// A number with its thousands apart, and the decimals that it has.
fn figure(value: f64) -> String {
    let text = format!("{}", (value * 1e6).round() / 1e6);
    let (whole, decimals) = text.split_once('.').map_or((text.as_str(), None), |(whole, rest)| (whole, Some(rest)));
    let mut grouped = String::new();
    for (left, digit) in (1..=whole.len()).rev().zip(whole.chars()) {
        grouped.push(digit);
        if left > 1 && left % 3 == 1 {
            grouped.push(' ');
        }
    }
    decimals.map_or(grouped.clone(), |decimals| format!("{grouped}.{decimals}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        let shown = [0.001, 1.0, 999.5, 1_000.0, 172_800_000.0, 11_574.1].map(figure);
        assert_eq!(shown, ["0.001", "1", "999.5", "1 000", "172 800 000", "11 574.1"]);
        assert_eq!(
            (bytes(1.5 * GIB), bytes(2.0 * TIB), bits(1.6e7), bits(2.5e9)),
            ("1.5 GiB".into(), "2.0 TiB".into(), "16.0 Mbit/s".into(), "2.5 Gbit/s".into())
        );
        assert_eq!((round_down(12_345.0), round_down(0.4), round_down(99.9)), (12_000.0, 0.4, 99.0));
    }
}
