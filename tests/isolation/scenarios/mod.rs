//! The measurements, each with its own servers and processes.

pub mod burst;
pub mod drain;
pub mod fanout;
pub mod herd;
pub mod history;
pub mod join;
pub mod light;
pub mod limited;
pub mod many;
pub mod neighbour;
pub mod outage;
pub mod recover;
pub mod replay;
pub mod telemetry;
pub mod wide;
