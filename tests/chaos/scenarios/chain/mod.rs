//! The whole chain: whatever delivers is killed, and so is a customer's service with an idempotent inbox. However often an
//! event arrives, it has one effect there.

mod customer;
mod service;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use uuid::Uuid;

use customer::Customer;

use crate::chaos::kind::{Kind, Role, Server};
use crate::chaos::ledger::Books;
use crate::chaos::options::Options;
use crate::chaos::report::Report;
use crate::chaos::run::Running;
use crate::chaos::schedule::Fault;

pub use service::serve;

/// What is killed in turn, beside the customer's service.
const KILLS: [Kind; 4] = [
    Kind::Kill(Role::Worker),
    Kind::KillServer(Server::Postgres),
    Kind::Kill(Role::Relay),
    Kind::KillServer(Server::Broker),
];

pub async fn run(options: &Options, dir: &Path) -> Result<Report, String> {
    let running = Running::start(dir, Vec::new(), &[], options.seed()).await?;
    let stack = running.stack.clone();
    let customer = Customer::of(&stack, dir).await?;
    running.start_services(&[Role::Relay, Role::Worker]).await;
    let producing = running.produce(options.rate(), options.events());
    running.flows().await?;
    let kills = options.faults();
    let (happened, killed) = tokio::join!(
        running.rounds(rounds(running.seed, kills), options.seconds()),
        customer.die(kills, Duration::from_secs_f64(options.seconds()))
    );
    producing.finish().await?;
    let ledger = running.ledger.clone();
    let mut report = running.end("chain", happened, BTreeMap::new()).await?;
    let (effects, requests) = (customer.effects().await?, customer.requests().await?);
    let wrong = compare(&ledger.books(), &effects);
    report.run.measured.extend([
        ("kills of the customer's service", killed.to_string()),
        ("requests to the customer's service", requests.to_string()),
        ("effects there", effects.len().to_string()),
        ("events without an effect, with more than one, never committed", format!("{wrong:?}")),
    ]);
    if wrong != [0; 3] {
        report.problems.push(format!("events without an effect, with more than one, never committed: {wrong:?}"));
    }
    // Otherwise the inbox had nothing to do.
    if requests <= effects.len() as u64 {
        report.problems.push("the customer's service got no event twice".to_owned());
    }
    Ok(report)
}

/// One after the other.
fn rounds(seed: u64, count: usize) -> Vec<Vec<Fault>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let fault = |(number, kind): (usize, Kind)| {
        vec![Fault { kind, target: number / KILLS.len() % kind.candidates(), hold: kind.hold(false, &mut rng) }]
    };
    KILLS.into_iter().cycle().take(count).enumerate().map(fault).collect()
}

/// Committed events without an effect, events with more than one, and effects of what was never committed.
fn compare(books: &Books, effects: &[Uuid]) -> [usize; 3] {
    let mut counts: HashMap<Uuid, usize> = HashMap::new();
    for id in effects {
        *counts.entry(*id).or_default() += 1;
    }
    [
        books.committed.keys().filter(|id| !counts.contains_key(id)).count(),
        counts.values().filter(|count| **count > 1).count(),
        counts.keys().filter(|id| !books.committed.contains_key(id)).count(),
    ]
}
