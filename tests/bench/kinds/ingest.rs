//! Producers that commit each event by itself, on many connections and as fast as they can, while everything is delivered.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinSet;

use crate::bench::options::Options;
use crate::bench::row::{Row, Spread};
use crate::bench::work::{
    KIB, PATIENCE, Round, WARM_UP, Work, accepted, drained, floor_id, last_settled, payload, tenants, unix_seconds,
};
use crate::isolation::peaks::watched;
use crate::isolation::receiver::Site;
use crate::isolation::stack::Stack;
use crate::wait_for;

const CONNECTIONS: u32 = 64;
const TENANTS: usize = 50;

pub async fn run(options: &Options, dir: &Path) -> Result<Vec<Row>, String> {
    let stack = Stack::start(dir, "ingest", &[], 1).await?;
    stack.listen()?;
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).min_connections(CONNECTIONS);
    let db = pool.connect_lazy_with((*stack.db.connect_options()).clone());
    let (tenants, sites) = tenants(&stack, "ingest", TENANTS, TENANTS).await?;
    drained(&stack, &Work { tenants: &tenants, sites: &sites, events: WARM_UP, each: 1, bytes: KIB }).await?;
    let (tenants, mut rounds, mut commits) = (Arc::new(tenants), Vec::new(), Vec::new());
    for _ in 0..options.rounds() {
        let (round, committed) = one(&stack, &db, &tenants, &sites, options.deliveries()).await?;
        commits.push(round.deliveries / committed);
        rounds.push(round);
    }
    stack.stop().await?;
    let mut row = Row::of("ingest", format!("{CONNECTIONS} connections, one event a transaction"), &rounds);
    row.figure("commits a second, median", Spread::of(commits).median, "");
    Ok(vec![row])
}

/// And the seconds until all were committed.
async fn one(
    stack: &Stack,
    db: &PgPool,
    tenants: &Arc<Vec<String>>,
    sites: &[Arc<Site>],
    events: usize,
) -> Result<(Round, f64), String> {
    sites.iter().for_each(|site| site.arrivals().clear());
    let (first, before) = (floor_id(db).await?, accepted(sites));
    let (began, at, cpu) = (Instant::now(), unix_seconds(), stack.cpu());
    let working = async {
        produce(db, tenants, events).await?;
        let committed = began.elapsed().as_secs_f64();
        let come = async || (accepted(sites) - before >= events).then_some(());
        wait_for("all requests", PATIENCE, come).await?;
        stack.settled(PATIENCE).await.map(|()| committed)
    };
    let (committed, peaks) = watched(stack, working).await;
    let (committed, elapsed, used) = (committed?, began.elapsed().as_secs_f64(), stack.cpu() - cpu);
    let seconds = last_settled(db, first).await? - at;
    Ok((Round::new(events, seconds, used, elapsed, peaks), committed))
}

async fn produce(db: &PgPool, tenants: &Arc<Vec<String>>, events: usize) -> Result<(), String> {
    let (next, payload) = (Arc::new(AtomicUsize::new(0)), Arc::new(payload(KIB)));
    let mut producers = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (db, tenants, next, payload) = (db.clone(), tenants.clone(), next.clone(), payload.clone());
        producers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= events {
                    return Ok(());
                }
                let emit = sqlx::query("select posthaste.emit($1, 'order.created', $2::text::json)");
                emit.bind(&tenants[number % tenants.len()]).bind(payload.as_str()).execute(&db).await?;
            }
        });
    }
    let done: sqlx::Result<Vec<()>> = producers.join_all().await.into_iter().collect();
    done.map(drop).map_err(|error| error.to_string())
}
