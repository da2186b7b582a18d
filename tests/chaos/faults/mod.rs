//! Carrying out one fault, and waiting until work flows again. Below it is one file for each family of faults.

mod asleep;
mod crash_loop;
mod leader;
mod locks;
mod network;
mod processes;
mod queues;
mod receivers;
mod reconnects;
mod recovery;
mod retries;
pub mod servers;

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::chaos::kind::Kind;
use crate::chaos::proxy::Mode;
use crate::chaos::receiver::Manner;
use crate::chaos::schedule::Fault;
use crate::chaos::service::Service;
use crate::chaos::stack::{IN_HAND, Stack};

/// After this long a fault counts as not recovered from.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long a fault that could not be carried out is tried again.
const TRY_FOR: Duration = Duration::from_secs(60);
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// What a fault did, in seconds since the start of the run.
#[derive(Debug, Clone, Serialize)]
pub struct Happened {
    #[serde(skip)]
    pub kind: Kind,
    #[serde(rename = "kind")]
    pub name: &'static str,
    pub target: usize,
    /// When its round began: of two faults at the same time the same.
    pub round: f64,
    pub began: f64,
    /// The process is started again, the server answers again, the network is whole again.
    pub ended: f64,
    /// An event that was committed after the end was delivered.
    pub flowing: Option<f64>,
    /// And every affected process works again; none: not in time.
    pub recovered: Option<f64>,
    /// Another fault was going on at the same time.
    pub beside_another: bool,
    /// Requests that the receiver was answering when it began.
    pub in_flight: usize,
    /// What was looked at while it lasted.
    pub seen: Option<String>,
    pub problem: Option<String>,
}

impl Happened {
    pub fn recovery(&self) -> Option<f64> {
        self.recovered.map(|recovered| recovered - self.ended)
    }

    /// So many requests could have been under way, or done and not yet recorded, whose outcome it has cost.
    pub fn duplicates_at_most(&self) -> u64 {
        (self.kind.workers_hit() * IN_HAND) as u64
    }
}

/// What a fault showed while it lasted, beside what all of them are audited for.
#[derive(Debug, Default)]
pub struct Verdict {
    /// Printed in the report.
    pub seen: Option<String>,
    /// It was carried out, and what has to hold meanwhile did not.
    pub broken: Option<String>,
}

impl Verdict {
    /// The text is a figure of the report.
    pub fn of(seen: String) -> Verdict {
        Verdict { seen: Some(seen), broken: None }
    }

    /// The text is a figure of the report and, where it is over its bound, a problem too.
    pub fn bounded(seen: String, kept: bool) -> Verdict {
        let broken = (!kept).then(|| seen.clone());
        Verdict { seen: Some(seen), broken }
    }
}

pub async fn cause(stack: &Stack, fault: Fault, round: f64, beside_another: bool) -> Happened {
    watch(stack, fault, round, beside_another, carry_out(stack, fault)).await
}

/// The same of a fault that a scenario carries out itself.
pub async fn watch(
    stack: &Stack,
    fault: Fault,
    round: f64,
    beside_another: bool,
    doing: impl Future<Output = Result<Verdict, String>>,
) -> Happened {
    let began = stack.clock.now();
    let in_flight = stack.receiver.in_flight();
    let (seen, problem) = match doing.await {
        Ok(verdict) => (verdict.seen, verdict.broken),
        Err(problem) => (None, Some(problem)),
    };
    let ended = stack.clock.now();
    let (flowing, working) =
        tokio::join!(in_time(stack, recovery::flows(stack, fault)), in_time(stack, recovery::works(stack, fault)));
    let happened = Happened {
        kind: fault.kind,
        name: fault.kind.name(),
        target: fault.target,
        round,
        began,
        ended,
        flowing,
        recovered: flowing.zip(working).map(|(flowing, working)| flowing.max(working)),
        beside_another,
        in_flight,
        seen,
        problem,
    };
    say(&happened);
    happened
}

async fn in_time(stack: &Stack, waiting: impl Future<Output = ()>) -> Option<f64> {
    tokio::time::timeout(PATIENCE, waiting).await.ok().map(|()| stack.clock.now())
}

fn say(happened: &Happened) {
    let recovery =
        happened.recovery().map_or("NOT RECOVERED".to_owned(), |time| format!("recovered {time:.1} s after"));
    let lasted = happened.ended - happened.began;
    let note = happened.problem.as_ref().or(happened.seen.as_ref());
    let note = note.map(|note| format!("; {note}")).unwrap_or_default();
    eprintln!("[{:6.1} s] {} #{}: {lasted:.1} s, {recovery}{note}", happened.began, happened.name, happened.target + 1);
}

/// A fault counts when it has really happened: something ran and was killed, somebody met the broken network, the broker did
/// what it was told. What could not be done, because a server did not answer just then or because nobody noticed, is tried
/// again.
async fn carry_out(stack: &Stack, fault: Fault) -> Result<Verdict, String> {
    let began = Instant::now();
    loop {
        let problem = match once(stack, fault).await {
            Ok(verdict) => return Ok(verdict),
            Err(problem) => problem,
        };
        if began.elapsed() > TRY_FOR {
            return Err(format!("could not be carried out: {problem}"));
        }
        eprintln!("  {} once more, since {problem}", fault.kind.name());
        // Nothing says when it can be done.
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

async fn once(stack: &Stack, fault: Fault) -> Result<Verdict, String> {
    match fault.kind {
        Kind::Kill(_) => processes::kill(process(stack, fault)?, fault.hold).await,
        Kind::Stop(_) => processes::stop(process(stack, fault)?).await,
        Kind::Freeze => processes::freeze(process(stack, fault)?, fault.hold).await,
        Kind::Cut(_, server) => network::disturb(process(stack, fault)?, server, Mode::Cut, fault.hold).await,
        Kind::Swallow(_, server) => network::disturb(process(stack, fault)?, server, Mode::Swallow, fault.hold).await,
        Kind::SwallowLeader => leader::swallow(stack, fault.hold).await,
        Kind::LoseAnswers(role) => network::lose_answers(process(stack, fault)?, role, fault.hold).await,
        Kind::KillServer(server) => servers::restart(stack, server, false, fault.hold).await,
        Kind::RestartServer(server) => servers::restart(stack, server, true, fault.hold).await,
        Kind::Wipe => servers::wipe(stack).await,
        Kind::Alarm => servers::alarm(stack, fault.hold).await,
        Kind::DeleteWorkQueue => queues::delete_work_queue(stack, fault.target).await,
        Kind::DeleteDelayQueue => queues::delete_delay_queue(stack, fault.target).await,
        Kind::AlarmWhileFailing => retries::alarm(stack, fault.hold).await,
        Kind::ForbidDelayQueue => retries::forbid_delay_queue(stack, fault.hold).await,
        Kind::ReceiverFails => receivers::misbehave(stack, fault, Manner::Fail).await,
        Kind::ReceiverHangs => receivers::misbehave(stack, fault, Manner::Hang).await,
        Kind::ReceiverResets => receivers::misbehave(stack, fault, Manner::Reset).await,
        Kind::CrashLoop => crash_loop::crash(stack, fault).await,
        Kind::LockEndpoint => locks::lock_endpoint(stack, fault).await,
        Kind::StopReconnecting(_, server) => reconnects::stop(process(stack, fault)?, server, fault.hold).await,
        Kind::KillAsleep => asleep::strike(stack, asleep::Blow::Kill, fault.hold).await,
        Kind::FreezeAsleep => asleep::strike(stack, asleep::Blow::Freeze, fault.hold).await,
        Kind::Node(_) | Kind::Failover(_) => Err("a scenario carries it out".to_owned()),
    }
}

fn process(stack: &Stack, fault: Fault) -> Result<&Service, String> {
    fault.process().map(|number| stack.services[number].as_ref()).ok_or_else(|| "no process".to_owned())
}

fn really(happened: bool, otherwise: &str) -> Result<Verdict, String> {
    if happened { Ok(Verdict::default()) } else { Err(otherwise.to_owned()) }
}
