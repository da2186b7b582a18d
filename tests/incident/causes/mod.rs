//! One function for each cause: it makes the trouble, waits for the alerts, follows the runbook, repairs what no command
//! can repair, and waits until all is quiet.

use std::time::Duration;

pub mod database;
pub mod endpoints;
pub mod processes;
pub mod servers;

/// How long the system may take until it has done what it was given.
pub const SETTLED: Duration = Duration::from_secs(180);
