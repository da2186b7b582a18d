//! A relay without workers: what it publishes is taken by a consumer of this program, which does nothing else.

use std::path::Path;
use std::time::Instant;

use crate::bench::floor::consumer::Consumer;
use crate::bench::options::Options;
use crate::bench::row::Row;
use crate::bench::work::{KIB, PATIENCE, Round, WARM_UP, Work, commit, tenants};
use crate::isolation::peaks::watched;
use crate::isolation::stack::Stack;
use crate::wait_for;

pub async fn run(options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    let stack = Stack::start(dir, "relay", &[], 0).await?;
    let consumer = Consumer::start(&stack.binary.amqp_url, "posthaste.deliver").await?;
    let mut rows = Vec::new();
    for count in [1, 50] {
        let (tenants, _) = tenants(&stack, &format!("relay-{count}"), count, 1).await?;
        one(&stack, &consumer, &tenants, WARM_UP).await?;
        let mut rounds = Vec::new();
        for _ in 0..options.rounds() {
            rounds.push(one(&stack, &consumer, &tenants, options.deliveries()).await?);
        }
        rows.push(Row::of("relay", format!("tenants: {count}"), &rounds));
    }
    stack.stop().await?;
    Ok(rows)
}

async fn one(stack: &Stack, consumer: &Consumer, tenants: &[String], events: usize) -> Result<Round, String> {
    let before = consumer.count();
    commit(&stack.db, &Work { tenants, sites: &[], events, each: 1, bytes: KIB }).await?;
    let (began, cpu) = (Instant::now(), stack.cpu());
    let come = wait_for("all messages", PATIENCE, async || (consumer.count() - before >= events).then_some(()));
    let (done, peaks) = watched(stack, come).await;
    done?;
    let (elapsed, used) = (began.elapsed().as_secs_f64(), stack.cpu() - cpu);
    let seconds = consumer.last().saturating_duration_since(began).as_secs_f64();
    stack.relayed(PATIENCE).await?;
    // Nobody settles them; before long they would count as lost, and be published again.
    sqlx::query("delete from posthaste.deliveries").execute(&stack.db).await.map_err(|error| error.to_string())?;
    Ok(Round::new(events, seconds, used, elapsed, peaks))
}
