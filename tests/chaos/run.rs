//! A run from the first event to the audit.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::chaos::audit;
use crate::chaos::faults::{self, Happened};
use crate::chaos::kind::Role;
use crate::chaos::ledger::{Books, Ledger};
use crate::chaos::options::Options;
use crate::chaos::producers::{Load, produce};
use crate::chaos::receiver::Notes;
use crate::chaos::report::{Report, Run};
use crate::chaos::rounds::gather;
use crate::chaos::schedule::{Fault, plan};
use crate::chaos::service::{DISCARDED, HELD, REPUBLISHED};
use crate::chaos::stack::{Stack, settings};
use crate::frame::build;
use crate::kit::database;
use crate::process::Settings;

/// How long everything may take to be delivered once the faults are over.
const DRAIN: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Of an answer where many faults at once leave little time for catching up.
const WORK_WHEN_DENSE_MS: (u64, u64) = (5, 20);

/// A stack and what looks after it.
pub struct Running {
    pub stack: Arc<Stack>,
    pub ledger: Arc<Ledger>,
    pub seed: u64,
    looking_after: JoinHandle<()>,
    load_began: f64,
}

/// Producers at work.
pub struct Producing {
    enough: CancellationToken,
    task: JoinHandle<()>,
}

impl Producing {
    /// Until they have committed what they should.
    pub async fn finish(self) -> Result<(), String> {
        self.enough.cancel();
        self.task.await.map_err(|error| error.to_string())
    }
}

pub async fn with_faults(options: &Options, dir: &Path) -> Result<Report, String> {
    let seed = options.seed();
    let rounds = plan(seed, options.faults(), options.quick);
    let rounds = match options.at_once() {
        Some(most) => gather(rounds, most),
        None => rounds,
    };
    eprintln!("seed {seed}: {} faults, {} events at {:.0}/s", options.faults(), options.events(), options.rate());
    let running = Running::start(dir, Vec::new(), &[], seed).await?;
    if options.at_once().is_some() {
        running.stack.receiver.take_time(WORK_WHEN_DENSE_MS);
    }
    running.start_services(&[Role::Relay, Role::Worker]).await;
    let producing = running.produce(options.rate(), options.events());
    running.flows().await?;
    // Quick runs do not wait between rounds.
    let spread = if options.quick { 0.0 } else { options.seconds() };
    let happened = running.rounds(rounds, spread).await;
    producing.finish().await?;
    running.end("faults", happened, BTreeMap::new()).await
}

impl Running {
    pub async fn start(dir: &Path, changes: Settings, postgres_options: &[&str], seed: u64) -> Result<Running, String> {
        Ok(Running::on(Stack::start(dir, settings(changes), postgres_options).await?, seed))
    }

    pub fn on(stack: Stack, seed: u64) -> Running {
        let stack = Arc::new(stack);
        let looking = stack.clone();
        let looking_after = tokio::spawn(async move { looking.look_after().await });
        let load_began = stack.clock.now();
        let ledger = stack.ledger.clone();
        Running { stack, ledger, seed, looking_after, load_began }
    }

    pub async fn start_services(&self, roles: &[Role]) {
        for role in roles {
            self.stack.start_services(*role).await;
        }
    }

    /// Until so many events are committed in all.
    pub fn produce(&self, rate: f64, events: u64) -> Producing {
        let enough = CancellationToken::new();
        let load = Load { rate, events, seed: self.seed, database_url: self.stack.database_url.clone() };
        let pause = self.stack.pause.clone();
        let task = tokio::spawn(produce(load, self.ledger.clone(), self.stack.clock, pause, enough.clone()));
        Producing { enough, task }
    }

    /// Before the first fault everything works.
    pub async fn flows(&self) -> Result<(), String> {
        let receiver = &self.stack.receiver;
        let flowing = async || (receiver.notes().requests > 50).then_some(());
        crate::wait_for("the first deliveries", Duration::from_secs(60), flowing).await
    }

    /// The faults of a round begin together; the next round begins when work flows again, and not before its time.
    pub async fn rounds(&self, rounds: Vec<Vec<Fault>>, spread: f64) -> Vec<Happened> {
        let began = Instant::now();
        let count = rounds.len();
        let mut happened = Vec::new();
        for (number, round) in rounds.into_iter().enumerate() {
            let due = Duration::from_secs_f64(spread * number as f64 / count as f64);
            // The schedule says when.
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            let (now, beside_another) = (self.stack.clock.now(), round.len() > 1);
            let causing = round.into_iter().map(|fault| faults::cause(&self.stack, fault, now, beside_another));
            happened.extend(futures_util::future::join_all(causing).await);
        }
        happened
    }

    /// Waits until everything is delivered, stops all processes, and audits.
    pub async fn end(
        self,
        scenario: &'static str,
        happened: Vec<Happened>,
        measured: BTreeMap<&'static str, String>,
    ) -> Result<Report, String> {
        let Running { stack, ledger, seed, looking_after, load_began } = self;
        let load_ended = stack.clock.now();
        eprintln!("[{load_ended:6.1} s] {} events committed; waiting until all is delivered", ledger.committed());
        let (died, undrained) = drain(&stack).await?;
        // A process that it revives would not stay stopped.
        looking_after.abort();
        let _ = looking_after.await;
        stack.stop_services().await;
        let (books, notes) = (ledger.books(), stack.receiver.notes());
        let findings = audited(&stack, &books, &notes)?;
        let surprises = stack.services.iter().flat_map(|service| service.surprises());
        let run = Run {
            scenario,
            seed,
            program: build(),
            seconds: stack.clock.now(),
            load_seconds: load_ended - load_began,
            republished: stack.total(REPUBLISHED),
            copies_discarded: stack.total(DISCARDED),
            held: stack.total(HELD),
            died,
            measured,
            problems: undrained.into_iter().chain(surprises).collect(),
        };
        Ok(Report::new(run, findings, happened, &books, &notes))
    }
}

type Died = BTreeMap<String, u64>;

/// Waits until nothing is unfinished, and requeues what is dead. What had died, and what is left if it took too long.
async fn drain(stack: &Stack) -> Result<(Died, Option<String>), String> {
    let began = Instant::now();
    let mut died = Died::new();
    loop {
        let open = unfinished(stack).await.map_err(|error| error.to_string())?;
        let dead = dead(stack).await.map_err(|error| error.to_string())?;
        if open == 0 && dead.is_empty() {
            return Ok((died, None));
        }
        if began.elapsed() > DRAIN {
            return Ok((died, Some(format!("after {DRAIN:?}: {open} unfinished, dead: {dead:?}"))));
        }
        if open == 0 {
            dead.into_iter().for_each(|(reason, count)| *died.entry(reason).or_default() += count as u64);
            stack.run(&["requeue", "--all", "--yes"]).await?;
        }
        // PostgreSQL is asked; no process says when all are done.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Events that were not moved, batches that were not confirmed, deliveries that are neither delivered nor dead.
pub async fn unfinished(stack: &Stack) -> sqlx::Result<i64> {
    database::unfinished(&stack.db).await
}

async fn dead(stack: &Stack) -> sqlx::Result<Vec<(String, i64)>> {
    let count =
        "select coalesce(dead_reason, '?'), count(*) from posthaste.deliveries where status = 'dead' group by 1";
    sqlx::query_as(count).fetch_all(&stack.db).await
}

/// The books are locked and nobody writes any more, so the reading of the database may block here.
fn audited(stack: &Stack, books: &Books, notes: &Notes) -> Result<audit::Findings, String> {
    let auditing = audit::audit(stack, books, notes);
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(auditing))
        .map_err(|error| error.to_string())
}
