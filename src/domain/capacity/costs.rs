//! What everything costs, as it was measured, or where nothing was, what is assumed. Each figure says where it comes from.
//! docs/capacity.md has them too, and a test holds the two together. "drain" and "light" are scenarios of docs/isolation.md, the other
//! names are kinds of scripts/bench.

use serde::Serialize;

#[derive(Debug, Clone, Copy, Serialize)]
pub struct Cost {
    pub name: &'static str,
    pub value: f64,
    pub unit: &'static str,
    pub source: &'static str,
}

macro_rules! costs {
    ($($name:ident = $value:literal $unit:literal $source:literal;)+) => {
        $(pub const $name: f64 = $value;)+
        pub const ALL: &[Cost] =
            &[$(Cost { name: stringify!($name), value: $value, unit: $unit, source: $source }),+];
    };
}

costs! {
    // CPU of an event with nothing else: claiming it, and moving it to the history.
    EVENT_RELAY = 1.0 "us" "drain, in the proportions of fanout";
    EVENT_POSTGRESQL = 14.0 "us" "drain, in the proportions of fanout";
    // CPU of a delivery with its first attempt.
    DELIVERY_RELAY = 14.0 "us" "drain, in the proportions of fanout";
    DELIVERY_WORKER = 40.0 "us" "drain, in the proportions of fanout";
    DELIVERY_POSTGRESQL = 29.0 "us" "drain, in the proportions of fanout";
    DELIVERY_RABBITMQ = 45.0 "us" "drain";
    // CPU of a failed attempt and what follows, through a delay queue.
    RETRY_RELAY = 8.0 "us" "retry in proportion to a delivery that does not fail, times drain";
    RETRY_WORKER = 70.0 "us" "retry in proportion to a delivery that does not fail, times drain";
    RETRY_POSTGRESQL = 37.0 "us" "retry in proportion to a delivery that does not fail, times drain";
    RETRY_RABBITMQ = 100.0 "us" "retry in proportion to a delivery that does not fail, times drain";
    // CPU of each further KiB of payload: of an event in PostgreSQL, of a delivery in the relay, of an attempt in the worker, of a message
    // in RabbitMQ.
    KIB_RELAY = 3.6 "us" "payload, 1 MiB against 1 KiB, on a busy machine";
    KIB_WORKER = 5.3 "us" "payload, 64 KiB against 1 KiB, on a busy machine";
    KIB_POSTGRESQL = 16.1 "us" "payload, 1 MiB against 1 KiB, on a busy machine";
    KIB_RABBITMQ = 5.5 "us" "payload, 1 MiB against 1 KiB, on a busy machine";
    // CPU of a producer's session for a transaction.
    COMMIT_POSTGRESQL = 320.0 "us" "light";
    // CPU of an event on top, while there are too few at a time for batches.
    ALONE_RELAY = 205.0 "us" "light, less the cost of a delivery";
    ALONE_WORKER = 160.0 "us" "light, less the cost of a delivery";
    ALONE_POSTGRESQL = 237.0 "us" "light, less the cost of a delivery";
    ALONE_RABBITMQ = 355.0 "us" "light, less the cost of a delivery";
    ALONE_EVENTS = 500.0 "1/s" "assumed; in steady, on a busy machine, there were batches from 1 000 events a second on";
    // Disk of a row with its indexes; of a payload, for each byte.
    EVENT_DISK = 200.0 "B" "size";
    PAYLOAD_DISK = 1.05 "B" "size";
    DELIVERY_DISK = 320.0 "B" "size";
    ATTEMPT_DISK = 525.0 "B" "size; the answer comes on top";
    // Write-ahead log: of an event from the outbox to the history, of its payload for each byte, of a delivery with its attempt.
    EVENT_WAL = 700.0 "B" "size";
    PAYLOAD_WAL = 2.2 "B" "size";
    ATTEMPT_WAL = 1100.0 "B" "size";
    // What travels beside a payload. An answer is kept with its attempt.
    REQUEST = 500.0 "B" "size: 240 of our headers; the rest for the line, lengths, TLS and acknowledgements";
    ANSWER = 400.0 "B" "assumed: headers and body";
    MESSAGE = 400.0 "B" "counted: properties, headers and frames of src/broker/wire.rs, rounded up";
    // Memory.
    RELAY_MEMORY = 134217728.0 "B" "burst: 92 MiB at most, rounded up";
    WORKER_MEMORY = 268435456.0 "B" "worker: 204 MiB at most, rounded up";
    COPIES = 2.0 "" "assumed: a message is in a worker as it came and as it goes";
    SESSION = 10485760.0 "B" "assumed";
    RABBITMQ_MEMORY = 2147483648.0 "B" "assumed: three segments of its log, and what it takes itself";
    WAITING_MEMORY = 256.0 "B" "assumed";
    // Disk beside the history and the messages, and how full disks are to be.
    WAL_KEPT = 17179869184.0 "B" "assumed";
    RABBITMQ_DISK = 4294967296.0 "B" "assumed";
    SEGMENTS = 2.0 "" "assumed: a segment goes when all in it has gone";
    DISK_FULL = 0.8 "" "assumed";
    // Connections to RabbitMQ.
    RELAY_AMQP = 4.0 "" "burst: 6 of a relay and a worker";
    WORKER_AMQP = 2.0 "" "burst: 6 of a relay and a worker";
    // What one relay and one queue have carried, and what one server should.
    RELAY_EVENTS = 11300.0 "1/s" "drain: the slowest round; not its limit";
    QUEUE_MESSAGES = 12500.0 "1/s" "drain: the fastest round; not its limit";
    SESSIONS = 1000.0 "" "assumed";
}
