//! The broker comes back empty while very many deliveries wait in delay queues. Few can be lost that are due: what the
//! workers do not take waits in the outbox.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::chaos::faults::servers;
use crate::chaos::kind::Role;
use crate::chaos::options::Options;
use crate::chaos::receiver::Manner;
use crate::chaos::report::Report;
use crate::chaos::run::Running;
use crate::chaos::schedule::ENDPOINTS;
use crate::chaos::service::REPUBLISHED;
use crate::chaos::stack::Stack;
use crate::wait_for;

/// As fast as a few producers can commit.
const RATE: f64 = 2_000.0;
const PATIENCE: Duration = Duration::from_secs(600);
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const COUNTED: Duration = Duration::from_secs(10);

pub async fn run(options: &Options, dir: &Path) -> Result<Report, String> {
    // With circuits, what fails first would be held in PostgreSQL, where no broker can lose it.
    let settings =
        vec![("retry.schedule", r#"["1m", "1m", "1m", "1m"]"#.to_owned()), ("circuit.enabled", "false".to_owned())];
    let running = Running::start(dir, settings, &[], options.seed()).await?;
    let (stack, receiver) = (&running.stack, &running.stack.receiver);
    running.start_services(&[Role::Relay, Role::Worker]).await;
    receiver.take_time((0, 5));
    (0..ENDPOINTS).for_each(|endpoint| receiver.behave(endpoint, Manner::Fail));
    running.produce(RATE, options.events()).finish().await?;
    count_down(&running, "every first attempt", "status = 'pending'").await?;
    (0..ENDPOINTS).for_each(|endpoint| receiver.behave(endpoint, Manner::Accept));
    let delayed = count(&running, "status = 'retrying'").await.map_err(|error| error.to_string())?;
    servers::wipe(stack).await?;
    let up = stack.clock.now();
    eprintln!("[{up:6.1} s] the broker is back, empty; {delayed} deliveries were delayed");
    let rebuilding = tokio::spawn(rebuilt(stack.clone(), delayed as u64));
    count_down(&running, "everything", "status in ('pending', 'retrying', 'held')").await?;
    let all_done = stack.clock.now() - up;
    // What was delivered was published before, and the counters are read twice a second.
    let rebuilt = tokio::time::timeout(COUNTED, rebuilding).await.map_err(|_| "fewer were published than were lost")?;
    let rebuilt = rebuilt.map_err(|error| error.to_string())? - up;
    let measured = BTreeMap::from([
        ("unfinished when the broker was wiped", format!("{delayed} deliveries, delayed by about a minute")),
        ("all of them published again after", format!("{rebuilt:.1} s from when the empty broker answered")),
        ("everything delivered after", format!("{all_done:.1} s")),
    ]);
    running.end("wipe", Vec::new(), measured).await
}

/// When so many messages had been published again.
async fn rebuilt(stack: Arc<Stack>, due: u64) -> f64 {
    while stack.total(REPUBLISHED) < due {
        // The counters of the processes are what tells.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    stack.clock.now()
}

/// Waits until no delivery meets the condition any more.
async fn count_down(running: &Running, what: &str, condition: &'static str) -> Result<(), String> {
    let none = async || {
        let moved = moved(running).await.ok()? == 0;
        (moved && count(running, condition).await.ok()? == 0).then_some(())
    };
    wait_for(what, PATIENCE, none).await
}

async fn count(running: &Running, condition: &'static str) -> sqlx::Result<i64> {
    let count = format!("select count(*) from posthaste.deliveries where {condition}");
    sqlx::query_scalar(sqlx::AssertSqlSafe(count)).fetch_one(&running.stack.db).await
}

/// What the relays have yet to move.
async fn moved(running: &Running) -> sqlx::Result<i64> {
    let left = "select (select count(*) from posthaste.outbox) + (select count(*) from posthaste.relay_batches)";
    sqlx::query_scalar(left).fetch_one(&running.stack.db).await
}
