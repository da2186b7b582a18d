//! What one installation needs for a load.

use serde::Serialize;

use super::costs::*;
use super::load::{Load, Machine, Rates, Settings};
use crate::domain::rooms::SLOW_MS;

/// How busy cores are planned to be: what is left is for bursts, for catching up after a fault, and for short waits.
pub const BUSY: f64 = 0.6;
pub const KIB: f64 = 1024.0;
pub const MIB: f64 = 1024.0 * KIB;
pub const GIB: f64 = 1024.0 * MIB;
const SECONDS_OF_A_DAY: f64 = 86_400.0;
/// Two, to survive the loss of one.
const LEAST_PROCESSES: f64 = 2.0;
const CORES_OF_A_WORKER: f64 = 2.0;
/// Of `worker.concurrency`, what first attempts have of the two rooms: two thirds, and of these a fifth and the rest.
const PROMPT_SEATS: f64 = 2.0 / 3.0 / 5.0;
const SLOW_SEATS: f64 = 2.0 / 3.0 * 4.0 / 5.0;
/// One endpoint has at most half of a slow room.
const OF_ONE_ENDPOINT: f64 = 2.0;
const DEFAULT_CONCURRENCY: f64 = 1_440.0;
const DEFAULT_IN_FLIGHT: f64 = 32.0;
/// Days that are there beside those that are kept: today, and one that is about to go.
const DAYS_BESIDE: f64 = 2.0;
/// What PostgreSQL writes between two checkpoints should fit into its memory.
const CHECKPOINT_S: f64 = 300.0;

/// One kind of process or server.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Part {
    pub processes: f64,
    /// Of each.
    pub cores: f64,
    /// That are busy, of all together.
    pub busy_cores: f64,
    /// Of each.
    pub memory_bytes: f64,
    /// Of each.
    pub disk_bytes: f64,
}

/// In bits a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Network {
    pub to_receivers: f64,
    pub from_receivers: f64,
    pub to_rabbitmq: f64,
    pub from_rabbitmq: f64,
    pub to_postgresql: f64,
    pub from_postgresql: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Demand {
    pub rates: Rates,
    pub relay: Part,
    pub worker: Part,
    pub postgresql: Part,
    pub rabbitmq: Part,
    /// `worker.concurrency`.
    pub concurrency: f64,
    /// `--max-in-flight` of the largest endpoint.
    pub max_in_flight: f64,
    pub queues: f64,
    pub rabbitmq_handles: f64,
    pub worker_files: f64,
    /// Sessions that all processes may open.
    pub sessions: f64,
    pub amqp_connections: f64,
    pub history_bytes_per_day: f64,
    pub history_bytes: f64,
    pub wal_bytes_per_day: f64,
    pub wal_bytes_per_second: f64,
    pub network: Network,
}

pub fn demand(load: &Load, settings: &Settings, machine: &Machine) -> Demand {
    let rates = load.rates(&settings.delays_s);
    let [relay, worker, postgresql, rabbitmq] = busy(load, &rates).map(|cores| cores / machine.core_speed);
    let relays = (relay / BUSY).max(rates.events / (RELAY_EVENTS * BUSY)).ceil().max(LEAST_PROCESSES);
    let (workers, worker_cores) = workers(worker);
    let (concurrency, max_in_flight) = seats(load, &rates);
    let sessions = relays * relay_sessions(settings) + workers * worker_sessions(settings);
    let amqp_connections = relays * RELAY_AMQP + workers * WORKER_AMQP;
    let history_bytes_per_day = history(load, settings);
    let history_bytes = history_bytes_per_day * (load.retention_days + DAYS_BESIDE);
    let written = wal_of_an_event(load, settings);
    let messages = concurrency * 16.0 / 15.0 / workers;
    let memory_postgresql = (history_bytes_per_day / SECONDS_OF_A_DAY * CHECKPOINT_S).max(GIB) + sessions * SESSION;
    let one = |busy: f64, memory_bytes: f64, disk_bytes: f64| Part {
        processes: 1.0,
        cores: (busy / BUSY).ceil().max(1.0),
        busy_cores: busy,
        memory_bytes,
        disk_bytes,
    };
    Demand {
        rates,
        relay: Part { processes: relays, cores: 1.0, busy_cores: relay, memory_bytes: RELAY_MEMORY, disk_bytes: 0.0 },
        worker: Part {
            processes: workers,
            cores: worker_cores,
            busy_cores: worker,
            memory_bytes: WORKER_MEMORY + messages * (load.payload_bytes + MESSAGE) * COPIES,
            disk_bytes: 0.0,
        },
        postgresql: one(postgresql, memory_postgresql, (history_bytes + WAL_KEPT) / DISK_FULL),
        rabbitmq: one(
            rabbitmq,
            RABBITMQ_MEMORY + rates.waiting * WAITING_MEMORY,
            (RABBITMQ_DISK + rates.waiting * (load.payload_bytes + MESSAGE) * SEGMENTS) / DISK_FULL,
        ),
        concurrency,
        max_in_flight,
        queues: settings.queues as f64,
        rabbitmq_handles: settings.queue_handles as f64 + amqp_connections,
        worker_files: concurrency + settings.other_files,
        sessions,
        amqp_connections,
        history_bytes_per_day,
        history_bytes,
        wal_bytes_per_day: load.events_per_day * written,
        wal_bytes_per_second: load.events_per_second * written,
        network: network(load, &rates, written),
    }
}

/// Cores of relay, worker, PostgreSQL and RabbitMQ that do something.
fn busy(load: &Load, rates: &Rates) -> [f64; 4] {
    let Rates { events, commits, deliveries, retries, attempts, .. } = *rates;
    let kib = (load.payload_bytes / KIB - 1.0).max(0.0);
    let alone = events.min(ALONE_EVENTS);
    let us = [
        events * EVENT_RELAY
            + deliveries * (DELIVERY_RELAY + kib * KIB_RELAY)
            + retries * RETRY_RELAY
            + alone * ALONE_RELAY,
        deliveries * DELIVERY_WORKER + retries * RETRY_WORKER + attempts * kib * KIB_WORKER + alone * ALONE_WORKER,
        events * (EVENT_POSTGRESQL + kib * KIB_POSTGRESQL)
            + commits * COMMIT_POSTGRESQL
            + deliveries * DELIVERY_POSTGRESQL
            + retries * RETRY_POSTGRESQL
            + alone * ALONE_POSTGRESQL,
        deliveries * DELIVERY_RABBITMQ
            + retries * RETRY_RABBITMQ
            + (deliveries + 2.0 * retries) * kib * KIB_RABBITMQ
            + alone * ALONE_RABBITMQ,
    ];
    us.map(|us| us / 1e6)
}

/// How many, and cores of each.
fn workers(busy: f64) -> (f64, f64) {
    let cores = (busy / BUSY).ceil();
    if cores <= LEAST_PROCESSES {
        return (LEAST_PROCESSES, 1.0);
    }
    ((cores / CORES_OF_A_WORKER).ceil().max(LEAST_PROCESSES), CORES_OF_A_WORKER)
}

/// `worker.concurrency`, and the requests of the largest endpoint. A request is in the prompt room until it is 100 ms old,
/// and in the slow room if it takes longer.
fn seats(load: &Load, rates: &Rates) -> (f64, f64) {
    let answer_s = load.answer_ms / 1e3;
    let in_flight = rates.attempts * answer_s / BUSY;
    let prompt = rates.attempts * answer_s.min(SLOW_MS as f64 / 1e3) / BUSY;
    let largest = in_flight * load.largest_share;
    let seats = (prompt / PROMPT_SEATS).max(in_flight / SLOW_SEATS).max(largest * OF_ONE_ENDPOINT / SLOW_SEATS);
    (seats.max(DEFAULT_CONCURRENCY).ceil(), largest.max(DEFAULT_IN_FLIGHT).ceil())
}

/// Two pools, each with one session to listen, and two sessions of their own: for locks, and for checks.
fn relay_sessions(settings: &Settings) -> f64 {
    2.0 * (settings.max_connections + 1.0) + 2.0
}

/// One pool, with one to listen, and one for checks.
fn worker_sessions(settings: &Settings) -> f64 {
    settings.max_connections + 2.0
}

/// Bytes of a day.
fn history(load: &Load, settings: &Settings) -> f64 {
    let attempts = load.attempts(&settings.delays_s);
    let of_an_event = EVENT_DISK
        + load.payload_bytes * PAYLOAD_DISK
        + load.deliveries_per_event * (DELIVERY_DISK + attempts * (ATTEMPT_DISK + ANSWER));
    load.events_per_day * of_an_event
}

/// Bytes of write-ahead log.
fn wal_of_an_event(load: &Load, settings: &Settings) -> f64 {
    let attempts = load.attempts(&settings.delays_s);
    EVENT_WAL + load.payload_bytes * PAYLOAD_WAL + load.deliveries_per_event * attempts * (ATTEMPT_WAL + ANSWER)
}

fn network(load: &Load, rates: &Rates, written: f64) -> Network {
    const BITS: f64 = 8.0;
    let message = load.payload_bytes + MESSAGE;
    let published = rates.deliveries + rates.retries;
    Network {
        to_receivers: rates.attempts * (load.payload_bytes + REQUEST) * BITS,
        from_receivers: rates.attempts * ANSWER * BITS,
        to_rabbitmq: published * message * BITS,
        from_rabbitmq: published * message * BITS,
        // About what it writes of it; and what relays claim.
        to_postgresql: rates.events * written * BITS,
        from_postgresql: rates.events * message * BITS,
    }
}
