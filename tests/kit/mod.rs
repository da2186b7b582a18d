//! What the test programs share. What only one of them needs is with that one.

pub mod binary;
pub mod broker;
pub mod connections;
pub mod database;
pub mod http;
pub mod operate;
pub mod process;
pub mod proxy;
pub mod runbook;
pub mod servers;

use std::time::{Duration, Instant};

/// Asks again and again, with a pause between, until there is an answer. `None`: not within the limit.
pub async fn ask_until<T>(limit: Duration, pause: Duration, mut ask: impl AsyncFnMut() -> Option<T>) -> Option<T> {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return Some(answer);
        }
        if began.elapsed() >= limit {
            return None;
        }
        // What other processes, servers and queues have done sends no signal: this is where all such waiting is.
        tokio::time::sleep(pause).await;
    }
}

/// Whether there was such a process.
pub fn signal(process: u32, number: libc::c_int) -> bool {
    // SAFETY: kill takes plain numbers; a process that is gone is an error, which is the answer.
    unsafe { libc::kill(process as libc::pid_t, number) == 0 }
}
