//! How near a load is to what one installation can carry at most.

use serde::Serialize;

use super::costs::{QUEUE_MESSAGES, SESSIONS};
use super::demand::{BUSY, Demand};
use super::load::{Load, Machine, Settings};
use crate::domain::places::{Capacity, released};

/// `worker.concurrency` at most.
const MOST_REQUESTS: f64 = 32_768.0;
/// `--max-in-flight` at most.
const MOST_IN_FLIGHT: f64 = 10_000.0;
/// Ticks of the release in a second; one endpoint gets at most half of the places in each.
const TICKS: f64 = 10.0;
const OF_ONE_ENDPOINT: f64 = 2.0;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Several installations, each with some of the tenants, have as much of it each.
    Installation,
    /// Of one endpoint, however many installations there are.
    Endpoint,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Limit {
    pub name: &'static str,
    pub scope: Scope,
    pub needed: f64,
    pub at_most: f64,
    pub unit: &'static str,
    /// What moves it.
    pub advice: &'static str,
}

impl Limit {
    /// 1 is the limit.
    pub fn share(&self) -> f64 {
        self.needed / self.at_most
    }
}

/// Of both scopes, the nearest first.
pub fn limits(load: &Load, settings: &Settings, machine: &Machine, demand: &Demand) -> Vec<Limit> {
    let mut limits = Vec::from(of_installation(machine, demand));
    limits.extend(of_endpoint(load, settings, demand));
    limits.sort_by(|one, other| other.share().total_cmp(&one.share()));
    limits
}

fn of_installation(machine: &Machine, demand: &Demand) -> [Limit; 7] {
    let limit =
        |name, needed, at_most, unit, advice| Limit { name, scope: Scope::Installation, needed, at_most, unit, advice };
    let queue = QUEUE_MESSAGES * machine.core_speed * BUSY;
    let disk = demand.postgresql.disk_bytes / 1024f64.powi(4);
    let most = machine.disk_bytes / 1024f64.powi(4);
    [
        limit("disk of PostgreSQL", disk, most, "TiB", "fewer retention.days, a larger disk, or more installations"),
        limit(
            "cores of PostgreSQL",
            demand.postgresql.busy_cores / BUSY,
            machine.cores,
            "cores",
            "several events in a transaction, a larger machine, or more installations",
        ),
        limit(
            "cores of RabbitMQ",
            demand.rabbitmq.busy_cores / BUSY,
            machine.cores,
            "cores",
            "broker.payload = \"reference\" where payloads are large, or more installations",
        ),
        limit(
            "the queue of first attempts",
            demand.rates.deliveries,
            queue,
            "a second",
            "one queue has one leader; more installations",
        ),
        limit(
            "the queue of retries",
            demand.rates.retries,
            queue,
            "a second",
            "one queue has one leader; more installations",
        ),
        limit(
            "requests in flight",
            demand.concurrency,
            MOST_REQUESTS,
            "in flight",
            "receivers that answer sooner, or more installations",
        ),
        limit(
            "sessions of PostgreSQL",
            demand.sessions,
            SESSIONS,
            "sessions",
            "a lower database.max_connections, or more installations",
        ),
    ]
}

fn of_endpoint(load: &Load, settings: &Settings, demand: &Demand) -> [Limit; 2] {
    let requests = demand.concurrency.min(MOST_REQUESTS) as usize;
    let places = released(Capacity { requests, messages: requests + requests / 15 });
    let tick = (f64::from(places) / OF_ONE_ENDPOINT).min(f64::from(settings.released_in_a_tick));
    [
        Limit {
            name: "the largest endpoint once it is behind",
            scope: Scope::Endpoint,
            needed: demand.rates.attempts * load.largest_share,
            at_most: tick * TICKS,
            unit: "a second",
            advice: "what is held for one endpoint is released no faster: a higher worker.concurrency, or several endpoints",
        },
        Limit {
            name: "requests to the largest endpoint",
            scope: Scope::Endpoint,
            needed: demand.max_in_flight,
            at_most: MOST_IN_FLIGHT,
            unit: "in flight",
            advice: "a receiver that answers sooner, or several endpoints",
        },
    ]
}
