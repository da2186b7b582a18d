//! Runs without a schedule of faults, each of which shows one thing.

pub mod backlog;
pub mod chain;
pub mod cluster;
pub mod failover;
pub mod rolling;
pub mod snapshot;
pub mod soak;
pub mod upgrade;
pub mod wipe;
