//! PostgreSQL: the truth. The only place with SQL and the name sqlx.
//!
//! One file for each table or transition; every function is one statement (or one transaction) with a time-out.

pub mod activity;
mod ahead;
pub mod attempts;
pub mod circuits;
pub mod claim;
mod claim_sql;
mod connect;
mod connections;
pub mod days;
mod db;
pub mod delay_queues;
pub mod deliveries;
pub mod due;
pub mod ended;
pub mod endpoints;
pub mod erase;
mod error;
pub mod events;
pub mod held;
pub mod history;
pub mod history_list;
pub mod idempotency;
pub mod leftovers;
pub mod locks;
pub mod markers;
pub mod migrate;
mod migrations;
mod options;
pub mod outbox;
pub mod partitions;
pub mod pauses;
pub mod reconcile;
pub mod relay_batches;
pub mod release;
pub mod replay;
pub mod requeue;
pub mod roles;
pub mod secrets;
pub mod sendable;
mod session;
pub mod settings;
pub mod settle;
pub mod slices;
pub mod stats;
pub mod suspects;
pub mod tenants;
pub mod told;
pub mod wake;

pub use db::Db;
pub use error::{Result, StoreError};
pub use options::Options;
pub use session::{Conn, Pool, Tx};
