//! A backlog of one endpoint that answers at once, committed in one transaction: how fast it is settled, and what each event costs.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::isolation::cpu::{Cpu, PARTS};
use crate::isolation::figures::quantile;
use crate::isolation::load::at_once;
use crate::isolation::options::Options;
use crate::isolation::peaks::watched;
use crate::isolation::receiver::Manner;
use crate::isolation::report::{Bound, Shown, Table, number};
use crate::isolation::stack::{Customer, Stack};
use crate::wait_for;

const EVENTS: usize = 50_000;
const WORKERS: usize = 1;
const ROUNDS: usize = 3;
const WARM_UP: usize = 5_000;
const PATIENCE: Duration = Duration::from_secs(300);
const PER_SECOND: f64 = 6_000.0;
/// CPU of relay and workers.
const OWN_US: f64 = 90.0;

pub struct Drained {
    per_second: f64,
    /// Microseconds an event.
    pub cpu: Cpu,
    busy: f64,
    again: usize,
    /// Deliveries that workers have taken out of the broker.
    held: f64,
}

pub async fn run(options: &Options, dir: &Path) -> Result<Shown, String> {
    // The default is not named, for binaries of before there was a choice.
    let changes: &[_] = if options.payload == "inline" { &[] } else { &[("broker.payload", options.payload.as_str())] };
    let stack = Stack::start(dir, "drain", changes, options.workers(WORKERS)).await?;
    stack.listen()?;
    let customer = stack.customers("drained", 1, Manner::Accept(0)).await?.remove(0);
    drain(&stack, &customer, WARM_UP, options.payload_bytes).await?;
    let (events, mut rounds) = (options.events(EVENTS), Vec::new());
    for _ in 0..options.rounds(ROUNDS) {
        let drained = drain(&stack, &customer, events, options.payload_bytes).await?;
        let own = drained.cpu.own();
        eprintln!(
            "  {:.0}/s, {own:.0} us an event of worker and relay, machine {:.0} % busy, {:.0} held by workers",
            drained.per_second, drained.busy, drained.held
        );
        rounds.push(drained);
    }
    stack.stop().await?;
    Ok(shown(&rounds, events))
}

pub async fn drain(stack: &Stack, customer: &Customer, events: usize, bytes: usize) -> Result<Drained, String> {
    customer.site.arrivals().clear();
    customer.site.expect(events);
    let before = customer.site.acceptances();
    at_once(&stack.db, std::slice::from_ref(&customer.tenant), events, bytes).await?;
    let (began, cpu, held) = (Instant::now(), stack.cpu(), held(stack).await);
    let settled = async {
        let come = async || (customer.site.acceptances() - before >= events).then_some(());
        wait_for("all requests", PATIENCE, come).await?;
        stack.settled(PATIENCE).await
    };
    watched(stack, settled).await.0?;
    let (seconds, used) = (began.elapsed().as_secs_f64(), stack.cpu() - cpu);
    let cores = crate::isolation::usage::load().1 as f64;
    Ok(Drained {
        per_second: events as f64 / seconds,
        cpu: used.scaled(1e6 / events as f64),
        busy: (used.all() + used.program) / seconds / cores * 100.0,
        again: customer.site.requests() - customer.site.accepted().len(),
        held: self::held(stack).await - held,
    })
}

async fn held(stack: &Stack) -> f64 {
    let mut held = 0.0;
    for worker in &stack.workers {
        let metrics = worker.metrics().await.unwrap_or_default();
        let counted = metrics.lines().filter(|line| line.starts_with("posthaste_held_total{"));
        held += counted.filter_map(|line| line.split_whitespace().last()?.parse::<f64>().ok()).sum::<f64>();
    }
    held
}

fn shown(rounds: &[Drained], events: usize) -> Shown {
    let mut shown = Shown::default();
    let head = [&["CPU, us an event"], PARTS.as_slice(), &["events/s", "busy %"]].concat();
    let mut table = Table::new(&head);
    for (number_of, round) in rounds.iter().enumerate() {
        let cells = round.cpu.parts().into_iter().chain([round.per_second, round.busy]);
        table.row(format!("round {}", number_of + 1), cells.map(number));
    }
    shown.tables.push(table);
    let median = |of: fn(&Drained) -> f64| quantile(&rounds.iter().map(of).collect::<Vec<_>>(), 0.5);
    shown.figure("events in a round", events as f64, "");
    shown.figure("CPU of PostgreSQL, median", median(|round| round.cpu.postgres), "us an event");
    shown.figure("CPU of RabbitMQ, median", median(|round| round.cpu.rabbitmq), "us an event");
    shown.figure("held by workers, most in a round", rounds.iter().map(|round| round.held).fold(0.0, f64::max), "");
    shown.figure("requests for an event that had been accepted before", median(|round| round.again as f64), "");
    shown.claim("events a second until settled, median", median(|round| round.per_second), Bound::AtLeast(PER_SECOND));
    shown.claim("CPU of worker and relay, us an event, median", median(|round| round.cpu.own()), Bound::AtMost(OWN_US));
    shown
}
