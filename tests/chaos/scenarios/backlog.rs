//! A queue that is far longer than the workers can serve. Waiting is not being lost: nothing may be published again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::chaos::kind::Role;
use crate::chaos::options::Options;
use crate::chaos::report::Report;
use crate::chaos::run::Running;
use crate::chaos::service::REPUBLISHED;

const RATE: f64 = 2_000.0;
/// Of one answer while the queue stays long, in milliseconds.
const SLOW_MS: (u64, u64) = (700, 1_300);
/// Several times what a delivery may be due before it is looked for.
const SLOW_FOR: Duration = Duration::from_secs(90);

pub async fn run(options: &Options, dir: &Path) -> Result<Report, String> {
    // With a bound in flight for each endpoint, the queue would be held in PostgreSQL instead.
    let unbounded = vec![("delivery.max_in_flight", "4096".to_owned())];
    let running = Running::start(dir, unbounded, &[], options.seed()).await?;
    let receiver = &running.stack.receiver;
    running.start_services(&[Role::Relay, Role::Worker]).await;
    receiver.take_time(SLOW_MS);
    let began = Instant::now();
    running.produce(RATE, options.events() / 2).finish().await?;
    // The queue shall be long for so long.
    tokio::time::sleep(SLOW_FOR.saturating_sub(began.elapsed())).await;
    let unfinished = crate::chaos::run::unfinished(&running.stack).await.map_err(|error| error.to_string())?;
    let (slow_for, republished) = (began.elapsed().as_secs(), running.stack.total(REPUBLISHED));
    eprintln!("{unfinished} deliveries still wait after {slow_for} s; {republished} were published again");
    receiver.take_time((0, 2));
    let measured = BTreeMap::from([
        ("waiting at the end of the slow time", format!("{unfinished} deliveries, after {slow_for} s")),
        ("published again meanwhile (must be 0)", republished.to_string()),
    ]);
    let mut report = running.end("backlog", Vec::new(), measured).await?;
    if report.run.republished > 0 {
        report.problems.push(format!("{} messages were taken for lost", report.run.republished));
    }
    Ok(report)
}
