//! How many installations a load makes, and what each of them needs.

use serde::Serialize;

use super::demand::{Demand, demand};
use super::limits::{Limit, Scope, limits};
use super::load::{Load, Machine, Settings};

/// More are not looked for.
const MOST_INSTALLATIONS: u32 = 1_000;
/// Up to this rate it is looked how much one installation carries.
const MOST_EVENTS: f64 = 1e9;

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// None: the largest endpoint alone is too much for one, or there would be more than a thousand.
    pub installations: Option<u32>,
    /// Of each; where there are several, of the one with the largest endpoint.
    pub demand: Demand,
    /// What the whole load would be on one installation, the nearest first.
    pub limits: Vec<Limit>,
    /// That one installation carries, of the same kind.
    pub most_events_per_second: f64,
}

pub fn plan(load: &Load, settings: &Settings, machine: &Machine) -> Plan {
    let installations = (1..=MOST_INSTALLATIONS).find(|count| fits(&share(load, *count), settings, machine));
    let each = share(load, installations.unwrap_or(1));
    let whole = demand(load, settings, machine);
    Plan {
        installations,
        demand: demand(&each, settings, machine),
        limits: limits(load, settings, machine, &whole),
        most_events_per_second: most(load, settings, machine),
    }
}

/// An equal part, but at least what cannot be divided.
fn share(load: &Load, installations: u32) -> Load {
    load.part((1.0 / f64::from(installations)).max(load.largest_share))
}

fn fits(load: &Load, settings: &Settings, machine: &Machine) -> bool {
    let demand = demand(load, settings, machine);
    let limits = limits(load, settings, machine, &demand);
    limits.iter().filter(|limit| limit.scope == Scope::Installation).all(|limit| limit.share() <= 1.0)
}

/// By halving: all that is needed grows with the load.
fn most(load: &Load, settings: &Settings, machine: &Machine) -> f64 {
    let (mut fit, mut too_much) = (0.0, MOST_EVENTS);
    for _ in 0..60 {
        let rate = f64::midpoint(fit, too_much);
        let factor = rate / load.events_per_second;
        let scaled = Load { events_per_second: rate, events_per_day: load.events_per_day * factor, ..load.clone() };
        if fits(&scaled, settings, machine) {
            fit = rate;
        } else {
            too_much = rate;
        }
    }
    fit
}
