//! Events that go to several endpoints each.

use std::path::Path;

use crate::bench::options::Options;
use crate::bench::row::Row;
use crate::bench::work::{KIB, WARM_UP, Work, drained, subscribers};
use crate::isolation::receiver::Manner;
use crate::isolation::stack::Stack;

pub async fn run(options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    let stack = Stack::start(dir, "fanout", &[], 1).await?;
    stack.listen()?;
    let mut rows = Vec::new();
    for each in [1, 10, 100] {
        let tenant = [format!("fanout-{each}")];
        let sites = subscribers(&stack, &tenant[0], each, Manner::Accept(0)).await?;
        let work =
            |deliveries: usize| Work { tenants: &tenant, sites: &sites, events: deliveries / each, each, bytes: KIB };
        drained(&stack, &work(WARM_UP)).await?;
        let mut rounds = Vec::new();
        for _ in 0..options.rounds() {
            rounds.push(drained(&stack, &work(options.deliveries())).await?);
        }
        rows.push(Row::of("fanout", format!("deliveries of an event: {each}"), &rounds));
    }
    stack.stop().await?;
    Ok(rows)
}
