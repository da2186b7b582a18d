//! A run from the first event to the audit.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::audit;
use crate::faults::{self, Happened};
use crate::ledger::Ledger;
use crate::options::Options;
use crate::producers::{Load, produce};
use crate::report::{Report, Run};
use crate::schedule::{Role, plan};
use crate::service::{DISCARDED, HELD, REPUBLISHED};
use crate::stack::{Stack, settings};

/// How long everything may take to be delivered once the faults are over.
const DRAIN: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// The share of rounds with two faults at the same time.
const PAIRS: f64 = 0.25;
const PAIRS_WHEN_QUICK: f64 = 0.75;

/// A stack with its producers and what looks after it.
pub struct Running {
    pub stack: Arc<Stack>,
    pub ledger: Arc<Ledger>,
    enough: CancellationToken,
    producing: JoinHandle<()>,
    looking_after: JoinHandle<()>,
}

pub async fn with_faults(options: &Options, dir: &Path) -> Result<Report, String> {
    let seed = options.seed();
    let rounds = plan(seed, options.faults(), if options.quick { PAIRS_WHEN_QUICK } else { PAIRS });
    let rate = options.events() as f64 / options.seconds();
    eprintln!("seed {seed}: {} faults, {} events at {rate:.0}/s", options.faults(), options.events());
    let running = Running::start(dir, Vec::new(), (20, 80), rate, options.events(), seed).await?;
    running.flows().await?;
    // Quick runs do not wait between rounds.
    let spread = if options.quick { 0.0 } else { options.seconds() };
    let happened = running.rounds(rounds, spread).await;
    running.end("faults", seed, happened).await
}

impl Running {
    pub async fn start(
        dir: &Path,
        changes: crate::service::Settings,
        work_ms: (u64, u64),
        rate: f64,
        events: u64,
        seed: u64,
    ) -> Result<Running, String> {
        let stack = Arc::new(Stack::start(dir, settings(changes), work_ms).await?);
        for role in [Role::Relay, Role::Worker] {
            stack.start_services(role).await;
        }
        let ledger = Arc::new(Ledger::default());
        let enough = CancellationToken::new();
        let load = Load { rate, events, seed, database_url: stack.database_url.clone() };
        let producing = tokio::spawn(produce(load, ledger.clone(), stack.clock, enough.clone()));
        let looking = stack.clone();
        let looking_after = tokio::spawn(async move { looking.look_after().await });
        Ok(Running { stack, ledger, enough, producing, looking_after })
    }

    /// Before the first fault everything works.
    pub async fn flows(&self) -> Result<(), String> {
        let receiver = &self.stack.receiver;
        let flowing = async || (receiver.notes().requests > 50).then_some(());
        crate::programs::wait_for("the first deliveries", Duration::from_secs(60), flowing).await
    }

    /// The faults of a round begin together; the next round begins when work flows again, and not before its time.
    async fn rounds(&self, rounds: Vec<Vec<crate::schedule::Fault>>, spread: f64) -> Vec<Happened> {
        let began = Instant::now();
        let count = rounds.len();
        let mut happened = Vec::new();
        for (number, round) in rounds.into_iter().enumerate() {
            let due = Duration::from_secs_f64(spread * number as f64 / count as f64);
            // The schedule says when.
            tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
            let beside_another = round.len() > 1;
            let causing = round.into_iter().map(|fault| faults::cause(&self.stack, fault, beside_another));
            happened.extend(futures_util::future::join_all(causing).await);
        }
        happened
    }

    /// No more events and no more faults: everything is delivered, stopped and audited.
    pub async fn end(self, scenario: &'static str, seed: u64, happened: Vec<Happened>) -> Result<Report, String> {
        let Running { stack, ledger, enough, producing, looking_after } = self;
        enough.cancel();
        producing.await.map_err(|error| error.to_string())?;
        let load_seconds = stack.clock.now();
        eprintln!("[{load_seconds:6.1} s] {} events committed; waiting until all is delivered", ledger.committed());
        let (requeued, undrained) = drain(&stack).await?;
        // The processes revived by it would not stay stopped.
        looking_after.abort();
        let _ = looking_after.await;
        stack.stop_services().await;
        let (books, notes) = (ledger.books(), stack.receiver.notes());
        let findings = audited(&stack, &books, &notes)?;
        let surprises = stack.services.iter().flat_map(|service| service.surprises());
        let run = Run {
            scenario,
            seed,
            program: if cfg!(debug_assertions) { "debug" } else { "release" },
            seconds: stack.clock.now(),
            load_seconds,
            republished: stack.total(REPUBLISHED),
            copies_discarded: stack.total(DISCARDED),
            held: stack.total(HELD),
            requeued,
            problems: undrained.into_iter().chain(surprises).collect(),
        };
        Ok(Report::new(run, findings, happened, &books, &notes))
    }
}

/// Waits until nothing is unfinished; requeues what is dead. How many were requeued, and what is left if it took too long.
async fn drain(stack: &Stack) -> Result<(u64, Option<String>), String> {
    let began = Instant::now();
    let mut requeued = 0;
    loop {
        let (unfinished, dead) = unfinished(stack).await.map_err(|error| error.to_string())?;
        if unfinished == 0 && dead == 0 {
            return Ok((requeued, None));
        }
        if unfinished == 0 {
            requeued += dead;
            stack.run(&["requeue", "--all", "--yes"]).await?;
        }
        if began.elapsed() > DRAIN {
            return Ok((requeued, Some(format!("{unfinished} unfinished and {dead} dead after {DRAIN:?}"))));
        }
        // PostgreSQL is asked; no process says when all are done.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Unfinished deliveries with unrelayed events and unconfirmed batches, and dead ones.
async fn unfinished(stack: &Stack) -> sqlx::Result<(u64, u64)> {
    let count = "select
        (select count(*) from posthaste.outbox) + (select count(*) from posthaste.relay_batches)
            + (select count(*) from posthaste.deliveries where status in ('pending', 'retrying', 'held')),
        (select count(*) from posthaste.deliveries where status = 'dead')";
    let (unfinished, dead): (i64, i64) = sqlx::query_as(count).fetch_one(&stack.db).await?;
    Ok((unfinished as u64, dead as u64))
}

/// The books are locked and nobody writes any more, so the reading of the database may block here.
fn audited(
    stack: &Stack,
    books: &crate::ledger::Books,
    notes: &crate::receiver::Notes,
) -> Result<audit::Findings, String> {
    let auditing = audit::audit(stack, books, notes);
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(auditing))
        .map_err(|error| error.to_string())
}
