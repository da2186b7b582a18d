//! The same burst with more workers and more relays on this machine: whether an event costs the same, and whether they stand in
//! each other's way.

use std::convert::Infallible;
use std::path::Path;
use std::time::Duration;

use sqlx::PgPool;

use crate::bench::options::Options;
use crate::bench::row::Row;
use crate::bench::work::{KIB, WARM_UP, Work, drained, tenants};
use crate::isolation::stack::Stack;

/// Relays and workers, never fewer than before.
const SIZES: [(usize, usize); 6] = [(1, 1), (1, 2), (1, 4), (1, 8), (2, 8), (4, 8)];
const TENANTS: usize = 50;
const SAMPLE: Duration = Duration::from_millis(10);
/// Sessions of ours that wait for a lock just now, and for how many milliseconds the longest has.
const WAITING: &str =
    "select count(*), coalesce(max(1000 * extract(epoch from clock_timestamp() - query_start)), 0)::float8
    from pg_stat_activity
   where datname = current_database() and wait_event_type = 'Lock' and application_name like 'posthaste%'";

#[derive(Debug, Default)]
struct Waits {
    samples: u32,
    with_a_wait: u32,
    longest_ms: f64,
}

pub async fn run(options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    let mut stack = Stack::start(dir, "scale", &[], 0).await?;
    stack.listen()?;
    let (tenants, sites) = tenants(&stack, "scale", TENANTS, TENANTS).await?;
    let work = |events| Work { tenants: &tenants, sites: &sites, events, each: 1, bytes: KIB };
    let mut rows = Vec::new();
    for (relays, workers) in SIZES {
        while stack.relays.len() < relays {
            stack.add_relay().await?;
        }
        while stack.workers.len() < workers {
            stack.add_worker().await?;
        }
        drained(&stack, &work(WARM_UP)).await?;
        let (mut rounds, mut waits) = (Vec::new(), Waits::default());
        for _ in 0..options.rounds() {
            let deliveries = work(options.deliveries());
            let drained = drained(&stack, &deliveries);
            rounds.push(watched(&stack.db, &mut waits, drained).await?);
        }
        let mut row = Row::of("scale", format!("relays: {relays}, workers: {workers}"), &rounds);
        let share = f64::from(waits.with_a_wait) / f64::from(waits.samples.max(1)) * 100.0;
        row.figure("moments in which a session waited for a lock", share, "%");
        row.figure("the longest wait for a lock that was seen", waits.longest_ms, "ms");
        rows.push(row);
    }
    stack.stop().await?;
    Ok(rows)
}

async fn watched<T>(db: &PgPool, waits: &mut Waits, work: impl Future<Output = T>) -> T {
    tokio::select! {
        out = work => out,
        never = watch(db, waits) => match never {},
    }
}

async fn watch(db: &PgPool, waits: &mut Waits) -> Infallible {
    let mut tick = tokio::time::interval(SAMPLE);
    loop {
        tick.tick().await;
        let Ok((count, longest_ms)) = sqlx::query_as::<_, (i64, f64)>(WAITING).fetch_one(db).await else { continue };
        waits.samples += 1;
        waits.with_a_wait += u32::from(count > 0);
        waits.longest_ms = waits.longest_ms.max(longest_ms);
    }
}
