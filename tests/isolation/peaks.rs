//! The most that is used and waits while something goes on.

use std::time::Duration;

use crate::isolation::stack::Stack;
use crate::isolation::usage::usage;
use crate::process::Process;

const SAMPLE: Duration = Duration::from_millis(500);
const MIB: f64 = 1024.0 * 1024.0;

#[derive(Debug, Clone, Copy, Default)]
pub struct Peaks {
    pub workers_mib: f64,
    pub relays_mib: f64,
    /// Messages that are ready in the work queues.
    pub waiting: u64,
}

/// Does the work, and looks at everything meanwhile.
pub async fn watched<T>(stack: &Stack, work: impl Future<Output = T>) -> (T, Peaks) {
    let mut peaks = Peaks::default();
    let out = tokio::select! {
        out = work => out,
        never = watch(stack, &mut peaks) => match never {},
    };
    (out, peaks)
}

async fn watch(stack: &Stack, peaks: &mut Peaks) -> std::convert::Infallible {
    let mut tick = tokio::time::interval(SAMPLE);
    loop {
        tick.tick().await;
        let now = now(stack).await;
        peaks.workers_mib = peaks.workers_mib.max(now.workers_mib);
        peaks.relays_mib = peaks.relays_mib.max(now.relays_mib);
        peaks.waiting = peaks.waiting.max(now.waiting);
    }
}

pub async fn now(stack: &Stack) -> Peaks {
    let mib = |processes: &[Process]| processes.iter().map(|one| usage(one.id()).memory_bytes).sum::<f64>() / MIB;
    let waiting = stack.broker.waiting().await.unwrap_or_default();
    Peaks { workers_mib: mib(&stack.workers), relays_mib: mib(&stack.relays), waiting }
}
