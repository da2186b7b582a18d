//! Carrying out one fault, and waiting until work flows again.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::ledger::unix_ms;
use crate::programs::wait_for;
use crate::proxy::Mode;
use crate::receiver::Manner;
use crate::schedule::{ENDPOINTS, Fault, Kind, Server};
use crate::service::Service;
use crate::stack::{IN_HAND, PREFIX, Stack};

/// After this long a fault counts as not recovered from.
const PATIENCE: Duration = Duration::from_secs(60);
/// So long a fault that could not be carried out is tried again.
const TRY_FOR: Duration = Duration::from_secs(60);
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// With an alarm that stays on, no fault after it would show anything.
const TRIES_TO_CALM: u32 = 5;
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// So long an endpoint fails before a delay queue is deleted, so that there is something in it.
const FILL: Duration = Duration::from_millis(800);
/// And so long at most, where there is nothing yet.
const FILL_FOR: Duration = Duration::from_secs(3);

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

pub async fn cause(stack: &Stack, fault: Fault, round: f64, beside_another: bool) -> Happened {
    let began = stack.clock.now();
    let in_flight = stack.receiver.in_flight();
    let problem = carry_out(stack, fault).await.err();
    let ended = stack.clock.now();
    let (flowing, working) =
        tokio::join!(in_time(stack, flows_again(stack, fault)), in_time(stack, work_again(stack, fault)));
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
    let problem = happened.problem.as_ref().map(|problem| format!("; {problem}")).unwrap_or_default();
    eprintln!(
        "[{:6.1} s] {} #{}: {lasted:.1} s, {recovery}{problem}",
        happened.began,
        happened.name,
        happened.target + 1
    );
}

/// A fault counts when it has really happened: something ran and was killed, somebody met the broken network, the broker did
/// what it was told. What could not be done, because a server did not answer just then or because nobody noticed, is tried
/// again.
async fn carry_out(stack: &Stack, fault: Fault) -> Result<(), String> {
    let began = Instant::now();
    loop {
        let Err(problem) = once(stack, fault).await else { return Ok(()) };
        if began.elapsed() > TRY_FOR {
            return Err(format!("could not be carried out: {problem}"));
        }
        eprintln!("  {} once more, since {problem}", fault.kind.name());
        // Nothing says when it can be done.
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

async fn once(stack: &Stack, fault: Fault) -> Result<(), String> {
    match fault.kind {
        Kind::Kill(_) | Kind::Stop(_) | Kind::Freeze | Kind::Cut(..) | Kind::Swallow(..) => {
            let number = fault.process().ok_or("no process")?;
            to_process(&stack.services[number], fault).await
        }
        Kind::KillServer(server) => restart(stack, server, false, fault.hold).await,
        Kind::RestartServer(server) => restart(stack, server, true, fault.hold).await,
        Kind::Wipe => wipe(stack).await,
        Kind::Alarm => alarm(stack, fault.hold).await,
        Kind::DeleteWorkQueue => delete_work_queue(stack, fault.target).await,
        Kind::DeleteDelayQueue => delete_delay_queue(stack, fault.target).await,
        Kind::ReceiverFails => misbehave(stack, fault, Manner::Fail).await,
        Kind::ReceiverHangs => misbehave(stack, fault, Manner::Hang).await,
        Kind::ReceiverResets => misbehave(stack, fault, Manner::Reset).await,
    }
}

fn really(happened: bool, otherwise: &str) -> Result<(), String> {
    if happened { Ok(()) } else { Err(otherwise.to_owned()) }
}

async fn to_process(service: &Service, fault: Fault) -> Result<(), String> {
    // All sleeps in here are the fault itself: it lasts for that long.
    let hold = tokio::time::sleep(fault.hold);
    let was_running = match fault.kind {
        Kind::Freeze => {
            let was_running = service.freeze(true).await;
            hold.await;
            service.freeze(false).await && was_running
        }
        Kind::Cut(_, server) | Kind::Swallow(_, server) => {
            let mode = if matches!(fault.kind, Kind::Cut(..)) { Mode::Cut } else { Mode::Swallow };
            service.proxy(server).set(mode);
            hold.await;
            service.proxy(server).set(Mode::Forward);
            return really(service.proxy(server).has_disturbed(), "nothing was on its way");
        }
        Kind::Stop(_) => {
            let was_running = service.stop().await;
            service.start().await;
            was_running
        }
        _ => {
            let was_running = service.kill().await;
            hold.await;
            service.start().await;
            was_running
        }
    };
    really(was_running, "it was not running")
}

async fn restart(stack: &Stack, server: Server, gracefully: bool, hold: Duration) -> Result<(), String> {
    match server {
        Server::Postgres => {
            let mut postgres = stack.postgres.lock().await;
            let stopped = if gracefully {
                postgres.stop().await
            } else {
                postgres.kill().await;
                Ok(())
            };
            // It is away for that long.
            tokio::time::sleep(hold).await;
            postgres.start().await.and(stopped)
        }
        Server::Broker => {
            let mut rabbitmq = stack.rabbitmq.lock().await;
            let stopped = if gracefully {
                rabbitmq.stop().await
            } else {
                rabbitmq.kill().await;
                Ok(())
            };
            // It is away for that long.
            tokio::time::sleep(hold).await;
            rabbitmq.start().await.and(stopped)
        }
    }
}

pub async fn wipe(stack: &Stack) -> Result<(), String> {
    let mut rabbitmq = stack.rabbitmq.lock().await;
    rabbitmq.kill().await;
    rabbitmq.forget_everything()?;
    rabbitmq.start().await
}

async fn alarm(stack: &Stack, hold: Duration) -> Result<(), String> {
    let rabbitmq = stack.rabbitmq.lock().await;
    rabbitmq.memory_alarm(true).await?;
    // The alarm lasts for that long, or until it was seen.
    let (alarmed, ()) = tokio::join!(rabbitmq.is_alarmed(), tokio::time::sleep(hold));
    for _ in 0..TRIES_TO_CALM {
        if rabbitmq.memory_alarm(false).await.is_ok() {
            return really(alarmed?, "the broker had no alarm");
        }
    }
    Err("the alarm could not be ended".to_owned())
}

async fn delete_work_queue(stack: &Stack, target: usize) -> Result<(), String> {
    let queue = format!("{PREFIX}.{}", ["deliver", "retry"][target]);
    let rabbitmq = stack.rabbitmq.lock().await;
    rabbitmq.delete_queue(&queue).await.map(drop)
}

/// Of the delay queues, the one that has the most in it.
async fn delete_delay_queue(stack: &Stack, endpoint: usize) -> Result<(), String> {
    stack.receiver.behave(endpoint, Manner::Fail);
    // Retries gather in the delay queues; not for long, since those of an endpoint that keeps failing wait in PostgreSQL.
    tokio::time::sleep(FILL).await;
    let delete = async || delete_fullest(stack).await.ok();
    let deleted = wait_for("something in a delay queue", FILL_FOR, delete).await;
    stack.receiver.behave(endpoint, Manner::Accept);
    deleted
}

async fn delete_fullest(stack: &Stack) -> Result<(), String> {
    let known = "select name from posthaste.delay_queues";
    let names: Vec<String> = sqlx::query_scalar(known).fetch_all(&stack.db).await.map_err(|error| error.to_string())?;
    let rabbitmq = stack.rabbitmq.lock().await;
    let mut fullest = (0, None);
    for name in &names {
        let depth = rabbitmq.depth(name).await?.unwrap_or(0);
        if depth > fullest.0 {
            fullest = (depth, Some(name));
        }
    }
    let queue = fullest.1.ok_or("nothing waits in a delay queue")?;
    let deleted = rabbitmq.delete_queue(queue).await?;
    eprintln!("  {queue} had {deleted} messages");
    Ok(())
}

async fn misbehave(stack: &Stack, fault: Fault, manner: Manner) -> Result<(), String> {
    let before = stack.receiver.treated(fault.target, manner);
    stack.receiver.behave(fault.target, manner);
    // It fails for that long.
    tokio::time::sleep(fault.hold).await;
    stack.receiver.behave(fault.target, Manner::Accept);
    really(stack.receiver.treated(fault.target, manner) > before, "no request came")
}

/// Until an event made from now on was delivered.
async fn flows_again(stack: &Stack, fault: Fault) {
    let since = unix_ms();
    let endpoints = if fault.kind.is_receiver() { fault.target..fault.target + 1 } else { 0..ENDPOINTS };
    while endpoints.clone().all(|endpoint| stack.receiver.newest_ms(endpoint) <= since) {
        // The receiver is asked often instead of waking everybody at each request.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Until every affected process has done some work again.
async fn work_again(stack: &Stack, fault: Fault) {
    let affected: Vec<&Service> = match fault.process() {
        Some(number) => vec![&stack.services[number]],
        None if fault.kind.is_receiver() => vec![],
        None => stack.services.iter().map(AsRef::as_ref).collect(),
    };
    futures_util::future::join_all(affected.into_iter().map(works_again)).await;
}

async fn works_again(service: &Service) {
    let before = service.work_done().await.unwrap_or(0.0);
    while service.work_done().await.is_none_or(|done| done <= before) {
        // Its metrics are what it says about itself.
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
