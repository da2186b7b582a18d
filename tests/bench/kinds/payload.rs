//! Payloads of different sizes, which no compression makes smaller by much.

use std::path::Path;

use crate::bench::options::Options;
use crate::bench::row::Row;
use crate::bench::work::{KIB, Work, drained, tenants};
use crate::isolation::stack::Stack;

const SIZES: [(usize, &str); 5] =
    [(256, "256 B"), (KIB, "1 KiB"), (8 * KIB, "8 KiB"), (64 * KIB, "64 KiB"), (1024 * KIB, "1 MiB")];
const TENANTS: usize = 50;
/// What a round carries at most.
const BYTES: usize = 512 << 20;

pub async fn run(options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    let stack = Stack::start(dir, "payload", &[], 1).await?;
    stack.listen()?;
    let (tenants, sites) = tenants(&stack, "payload", TENANTS, TENANTS).await?;
    let mut rows = Vec::new();
    for (bytes, name) in SIZES {
        let events = options.deliveries().min(options.scaled(BYTES) / bytes);
        let work = |events| Work { tenants: &tenants, sites: &sites, events, each: 1, bytes };
        drained(&stack, &work(events / 10 + 1)).await?;
        let mut rounds = Vec::new();
        for _ in 0..options.rounds() {
            rounds.push(drained(&stack, &work(events)).await?);
        }
        rows.push(Row::of("payload", name, &rounds));
    }
    stack.stop().await?;
    Ok(rows)
}
