//! Posthaste on a real PostgreSQL and a real RabbitMQ: the binary runs as child processes, against receivers that do
//! as a test says. `scripts/test` brings the servers.
#![cfg(feature = "service")]

mod harness;
#[path = "../kit/mod.rs"]
mod kit;

mod alarms;
mod blame;
mod broker_users;
mod by_reference;
mod bytes;
mod canary;
mod circuit;
mod clocks;
mod commands;
mod confined;
mod days;
mod erase;
mod events_about_events;
mod held_at_scale;
mod holding;
mod hostile;
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
mod retention;
mod retries;
mod roles;
mod roles_in_catalogs;
mod roles_statements;
mod schemes;
mod settle_agrees;
mod sharing;
mod stopping;
mod sweeping;
mod tls_to_servers;
mod topology;
mod tracing;
mod transactions;
mod turns;
mod types_agree;
mod versions;
mod waking;
