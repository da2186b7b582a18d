//! The measurements, each with its own servers and processes.

pub mod herd;
pub mod limited;
pub mod neighbour;
pub mod outage;
pub mod replay;
