//! Events at even rates, each committed by itself: from the commit to the arrival, and what each costs at this rate.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::bench::options::Options;
use crate::bench::row::{Latency, Row};
use crate::bench::work::Round;
use crate::isolation::latency::taken;
use crate::isolation::load::steady;
use crate::isolation::peaks::now;
use crate::isolation::receiver::Manner;
use crate::isolation::stack::Stack;

const RATES: [u32; 4] = [50, 200, 1_000, 2_000];
const TENANTS: usize = 50;
const TIME: Duration = Duration::from_secs(60);
const TIME_WHEN_QUICK: Duration = Duration::from_secs(6);
const WARM_UP: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run(options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    let stack = Stack::start(dir, "steady", &[], 1).await?;
    stack.listen()?;
    let customers = Arc::new(stack.customers("steady", TENANTS, Manner::Accept(0)).await?);
    let choose = |event| event % TENANTS;
    let sent = steady(&stack.db, customers.clone(), 200.0, WARM_UP, choose).await?;
    taken(&customers, &sent, PATIENCE).await;
    let time = if options.quick { TIME_WHEN_QUICK } else { TIME };
    let mut rows = Vec::new();
    for rate in RATES {
        let (began, cpu) = (Instant::now(), stack.cpu());
        let sent = steady(&stack.db, customers.clone(), f64::from(rate), time, choose).await?;
        let elapsed = began.elapsed().as_secs_f64();
        let (taken, missing) = taken(&customers, &sent, PATIENCE).await;
        let used = stack.cpu() - cpu;
        let round = Round::new(sent.len(), elapsed, used, elapsed, now(&stack).await);
        let mut row = Row::of("steady", format!("a second: {rate}"), &[round]);
        row.per_second = None;
        row.latency_ms = Some(Latency::of(&taken.iter().map(|taken| taken.ms).collect::<Vec<_>>()));
        row.figure("did not arrive within 30 s", missing as f64, "");
        rows.push(row);
    }
    stack.stop().await?;
    Ok(rows)
}
