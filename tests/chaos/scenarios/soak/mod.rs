//! A day of work in some minutes, through one relay and one worker that live from the first event to the last: nothing that
//! they hold may grow. Around them connections break, servers are restarted, endpoints fail, come and go, and a second relay and
//! a second worker are killed, so that leadership changes hands.

mod changes;
mod load;
mod measure;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::chaos::faults::Happened;
use crate::chaos::growth::{Measured, grown, table};
use crate::chaos::kind::{Kind, Role, Server};
use crate::chaos::options::Options;
use crate::chaos::report::Report;
use crate::chaos::run::{Running, unfinished};
use crate::chaos::schedule::{ENDPOINTS, Fault, RELAYS};
use crate::chaos::service::Service;
use crate::chaos::stack::{Stack, settings};
use crate::wait_for;

const PARTS: u64 = 10;
/// Of each role, the process that lives through everything, and the one that is killed.
const STEADY: usize = 0;
const OTHER: usize = 1;
/// As fast as it can be: what is measured depends on how much was done, not on how long it took.
const WORK_MS: (u64, u64) = (0, 2);
/// Events a second with everything that ordinary producers do, beside the many.
const TRICKLE: f64 = 60.0;
const DRAIN: Duration = Duration::from_secs(300);
/// Longer than idle connections to endpoints are kept, and than a thread waits for something to do.
const SETTLE: Duration = Duration::from_secs(12);

pub async fn run(options: &Options, dir: &Path) -> Result<Report, String> {
    let seed = options.seed();
    eprintln!("seed {seed}: {} events in {PARTS} parts", options.events());
    // As large as what an endpoint is owed after it failed at this speed.
    let changes = vec![("relay.release_rate", "2500".to_owned())];
    let mut stack = Stack::start(dir, settings(changes), &[]).await?;
    // Of each role there are two.
    stack.services.truncate(RELAYS + 2);
    stack.receiver.take_time(WORK_MS);
    let running = Running::on(stack, seed);
    for steady in steady(&running) {
        steady.start().await;
    }
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut happened, mut measured) = (Vec::new(), Vec::new());
    for part in 0..PARTS {
        let events = options.events() * (part + 1) / PARTS - options.events() * part / PARTS;
        happened.extend(work(&running, part as usize, events, rounds(&mut rng)).await?);
        measured.push(rest(&running).await?);
        eprint!("{}", table(&measured[part as usize..]));
    }
    let mut report = running.end("soak", happened, BTreeMap::new()).await?;
    report.problems.extend(grown(&measured));
    report.tenths = measured;
    Ok(report)
}

/// The faults of a part of the run, which are the same in each one, so that the first one has seen them all.
fn rounds(rng: &mut StdRng) -> Vec<Vec<Fault>> {
    use Kind::{Cut, Kill, ReceiverFails, ReceiverHangs, ReceiverResets, RestartServer};
    use Role::{Relay, Worker};
    use Server::{Broker, Postgres};
    let [fails, hangs, resets] = std::array::from_fn(|_| rng.random_range(0..ENDPOINTS));
    let rounds = [
        vec![(Cut(Relay, Postgres), STEADY), (Kill(Worker), OTHER), (ReceiverFails, fails)],
        // The other relay leads now.
        vec![(Kill(Relay), OTHER), (Cut(Worker, Broker), STEADY), (ReceiverHangs, hangs)],
        vec![(RestartServer(Broker), 0), (Cut(Worker, Postgres), STEADY)],
        vec![(RestartServer(Postgres), 0), (Cut(Relay, Broker), STEADY), (ReceiverResets, resets)],
    ];
    let mut fault = |(kind, target): (Kind, usize)| {
        let hold = if kind.is_receiver() { 2_000..4_000 } else { 300..1_500 };
        Fault { kind, target, hold: Duration::from_millis(rng.random_range(hold)) }
    };
    rounds.map(|round| round.into_iter().map(&mut fault).collect()).into()
}

fn steady(running: &Running) -> [&Service; 2] {
    [STEADY, RELAYS + STEADY].map(|number| running.stack.services[number].as_ref())
}

fn others(running: &Running) -> [&Service; 2] {
    [OTHER, RELAYS + OTHER].map(|number| running.stack.services[number].as_ref())
}

/// Commits events and has them delivered, with faults meanwhile.
async fn work(running: &Running, part: usize, events: u64, rounds: Vec<Vec<Fault>>) -> Result<Vec<Happened>, String> {
    for other in others(running) {
        other.start().await;
    }
    let trickle = running.produce(TRICKLE, 0);
    let guests = changes::come(running, part).await?;
    let mut happened = Vec::new();
    let share = events.div_ceil(rounds.len() as u64);
    for round in rounds {
        let ((), caused) = tokio::join!(load::in_bulk(running, share), running.rounds(vec![round], 0.0));
        happened.extend(caused);
    }
    trickle.finish().await?;
    let nothing = async || unfinished(&running.stack).await.ok().filter(|left| *left == 0);
    wait_for("the end of all deliveries", DRAIN, nothing).await?;
    changes::leave(running, guests).await?;
    for other in others(running) {
        other.stop().await;
    }
    Ok(happened)
}

/// With nothing to do, and nobody beside them.
async fn rest(running: &Running) -> Result<Measured, String> {
    // What is idle is given up after some time, which nobody tells.
    tokio::time::sleep(SETTLE).await;
    let [relay, worker] = steady(running);
    measure::measure(running, relay, worker).await
}
