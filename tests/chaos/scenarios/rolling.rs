//! Every relay and every worker is restarted with SIGTERM, one after the other, again and again, under load. Nothing may be
//! lost, and nothing delivered twice.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::chaos::kind::{Kind, Role};
use crate::chaos::options::Options;
use crate::chaos::report::Report;
use crate::chaos::run::Running;
use crate::chaos::schedule::{Fault, RELAYS, WORKERS};

const ROUNDS: usize = 3;

pub async fn run(options: &Options, dir: &Path) -> Result<Report, String> {
    let running = Running::start(dir, Vec::new(), &[], options.seed()).await?;
    running.start_services(&[Role::Relay, Role::Worker]).await;
    let producing = running.produce(options.rate(), options.events());
    running.flows().await?;
    let mut happened = Vec::new();
    let mut rounds = 0;
    while rounds < ROUNDS || running.ledger.committed() < options.events() {
        happened.extend(running.rounds(everybody(), 0.0).await);
        rounds += 1;
    }
    producing.finish().await?;
    let measured = BTreeMap::from([("restarts", format!("{} in {rounds} rounds", happened.len()))]);
    running.end("rolling", happened, measured).await
}

/// One after the other.
fn everybody() -> Vec<Vec<Fault>> {
    let stop = |role, target| vec![Fault { kind: Kind::Stop(role), target, hold: Duration::ZERO }];
    let relays = (0..RELAYS).map(|target| stop(Role::Relay, target));
    relays.chain((0..WORKERS).map(|target| stop(Role::Worker, target))).collect()
}
