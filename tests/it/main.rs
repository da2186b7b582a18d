//! Posthaste on a real PostgreSQL and a real RabbitMQ: the binary runs as child processes, against receivers that do
//! as a test says. `scripts/test` brings the servers.
#![cfg(feature = "service")]

mod harness;
#[path = "../kit/mod.rs"]
mod kit;

mod alarms;
mod blame;
mod bytes;
mod circuit;
mod clocks;
mod commands;
mod days;
mod held_at_scale;
mod holding;
mod housekeeping;
mod inbox;
mod inbox_crashes;
mod installations;
mod leading;
mod locked_rows;
mod long_history;
mod lost_answers;
mod migrations;
mod operations;
mod outgoing;
mod outgoing_tls;
mod pacing;
mod panics;
mod partitions;
mod pauses;
mod people;
mod poison;
mod publishing;
mod rebuilding;
mod reconcile_agrees;
mod refusals;
mod replay;
mod requeue;
mod restarts;
mod retries;
mod schemes;
mod settle_agrees;
mod sharing;
mod stopping;
mod sweeping;
mod topology;
mod transactions;
mod turns;
mod types_agree;
mod versions;
mod waking;
