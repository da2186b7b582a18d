//! Events that were committed before, until all are settled; and how many connections everything has then.

use std::path::Path;

use crate::bench::options::Options;
use crate::bench::row::Row;
use crate::bench::work::{KIB, WARM_UP, Work, drained, tenants};
use crate::isolation::stack::Stack;

pub async fn run(options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    let stack = Stack::start(dir, "burst", &[], 1).await?;
    stack.listen()?;
    let mut rows = Vec::new();
    for count in [1, 50] {
        let (tenants, sites) = tenants(&stack, &format!("burst-{count}"), count, count).await?;
        let work = |events| Work { tenants: &tenants, sites: &sites, events, each: 1, bytes: KIB };
        drained(&stack, &work(WARM_UP)).await?;
        let mut rounds = Vec::new();
        for _ in 0..options.rounds() {
            rounds.push(drained(&stack, &work(options.deliveries())).await?);
        }
        rows.push(Row::of("burst", format!("tenants and endpoints: {count}"), &rounds));
    }
    let last = rows.last_mut().ok_or("no case")?;
    for (name, count) in sessions(&stack).await? {
        last.figure(format!("sessions of {name} in PostgreSQL"), count as f64, "");
    }
    last.figure("connections to RabbitMQ, those of this program left out", connections(&stack).await?, "");
    stack.stop().await?;
    Ok(rows)
}

/// By what they say they are.
async fn sessions(stack: &Stack) -> Result<Vec<(String, i64)>, String> {
    let count = "select application_name, count(*) from pg_stat_activity
                  where datname = current_database() and application_name like 'posthaste%' group by 1 order by 1";
    sqlx::query_as(count).fetch_all(&stack.db).await.map_err(|error| error.to_string())
}

async fn connections(stack: &Stack) -> Result<f64, String> {
    let all = stack.broker.connections().await?;
    Ok(all - crate::isolation::broker::OWN_CONNECTIONS)
}
