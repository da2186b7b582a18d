//! How many threads run a command's tasks.
//!
//! Each thread more costs a process that has little to do: tasks wake each other across threads, and a core sleeps and wakes
//! several times for one event. So a process has no more of them than what it does needs.

use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};

use super::failure::Failure;
use crate::cli::Command;

/// Tokio's own setting. It wins over what is chosen here.
const THREADS: &str = "TOKIO_WORKER_THREADS";
const MOST: usize = 1024;

pub(super) fn runtime(command: &Command) -> Result<Runtime, Failure> {
    let cores = available_parallelism().map_or(1, usize::from);
    let threads = match std::env::var_os(THREADS) {
        Some(value) => given(&value.to_string_lossy())?,
        None => wanted(command, cores),
    };
    let built = Builder::new_multi_thread().worker_threads(threads).enable_all().build();
    built.map_err(|error| Failure::Failed(format!("cannot start: {error}")))
}

/// Tokio itself would panic.
fn given(value: &str) -> Result<usize, Failure> {
    let threads = value.parse().ok().filter(|threads| (1..=MOST).contains(threads));
    threads.ok_or_else(|| {
        Failure::Usage(format!("{THREADS}: '{value}' is no number of threads; set 1 to {MOST}, or unset it"))
    })
}

/// A relay waits for PostgreSQL and the broker nearly all the time. Workers sign, encrypt and parse; the cores are not theirs
/// alone, and what they share them with is what they wait for.
fn wanted(command: &Command, cores: usize) -> usize {
    match command {
        Command::Worker | Command::Run => cores.div_ceil(2),
        Command::Bench(_) | Command::Receiver(_) => cores.max(1),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_of_threads_is_refused() {
        assert_eq!(given("3").unwrap(), 3);
        for wrong in ["", "0", "-1", "many", "1025"] {
            assert!(matches!(given(wrong), Err(Failure::Usage(text)) if text.starts_with(THREADS)), "{wrong}");
        }
    }

    #[test]
    fn a_worker_has_half_of_the_cores_and_a_relay_one_thread() {
        let wanted_of = |command| [1, 2, 3, 8].map(|cores| wanted(&command, cores));
        assert_eq!((wanted_of(Command::Worker), wanted_of(Command::Relay)), ([1, 1, 2, 4], [1; 4]));
    }
}
