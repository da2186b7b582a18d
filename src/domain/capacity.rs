//! What a load needs: cores, processes, memory, disk, queues, connections, and which limit comes first.
//!
//! `load` is what is asked for, `costs` what was measured. `demand` computes what one installation would need for a load,
//! `limits` how near it then is to each limit, and `plan` how many installations that makes.

pub mod costs;
pub mod demand;
pub mod limits;
pub mod load;
pub mod plan;

#[cfg(test)]
#[path = "capacity_tests.rs"]
mod tests;
