//! One period: the healthy ones, what is beside them, and the end of that.

use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use crate::isolation::cpu::Cpu;
use crate::isolation::endpoints::{forget, vacuum};
use crate::isolation::healthy::{Healthy, Times};
use crate::isolation::load::{at_once, stream};
use crate::isolation::peaks::{Peaks, watched};
use crate::isolation::receiver::Manner;
use crate::isolation::stack::{Customer, Stack};
use crate::wait_for;

use super::kinds::{Group, Kind};

/// Until workers know new endpoints.
const KNOWN: Duration = Duration::from_millis(500);
/// A burst comes this long after the beginning.
const BURST_AFTER: Duration = Duration::from_secs(2);
const QUIET: Duration = Duration::from_secs(90);

pub struct Period {
    pub kind: Kind,
    pub began: Instant,
    pub times: Times,
    pub groups: Vec<Got>,
    /// In percent of a core.
    pub cpu: Cpu,
    pub peaks: Peaks,
    /// At the end of it.
    pub held: i64,
    /// Messages published, delivered and acknowledged, for each request made.
    pub operations: f64,
}

/// What a group got.
#[derive(Debug, Clone, Copy)]
pub struct Got {
    pub name: &'static str,
    pub requests: usize,
    /// Requests in a second, without the first third of the period.
    pub per_second: f64,
    pub capacity: Option<f64>,
}

type Beside = (Group, Vec<Customer>);

pub async fn period(stack: &Stack, healthy: &Healthy, kind: Kind, time: Duration) -> Result<Period, String> {
    let mut beside: Vec<Beside> = Vec::new();
    for group in kind.groups() {
        let name = format!("{}-{:x}", group.name.replace(' ', "-"), rand::random::<u32>());
        beside.push((group, stack.customers(&name, group.count, group.manner).await?));
    }
    // Nothing says that a worker has heard of an endpoint.
    tokio::time::sleep(KNOWN).await;
    let operations = stack.broker.operations().await?;
    let (began, before) = (Instant::now(), stack.cpu());
    let loads = try_join_all(beside.iter().map(|beside| load(stack, beside, time)));
    let committing = watched(stack, async { tokio::try_join!(healthy.commit(stack, time), loads) });
    let (committed, peaks) = committing.await;
    let (ended, cpu) = (Instant::now(), stack.cpu().since(before, began.elapsed().as_secs_f64()));
    let (operations, held) = (stack.broker.operations().await? - operations, stack.held().await?);
    let groups: Vec<Got> = beside.iter().map(|beside| got(beside, began, ended)).collect();
    let sent = committed?.0;
    let times = healthy.times(&sent).await;
    let requests = groups.iter().map(|got| got.requests).sum::<usize>() + sent.len();
    let operations = operations.total() / requests as f64;
    eprintln!("  {:<22} {}; held {held}", kind.name(), times.text());
    let slowest = times.each_second(began, 1.0).iter().map(|(_, ms)| format!("{ms:.0}")).collect::<Vec<_>>().join(" ");
    eprintln!("    the slowest that arrived of each second, ms: {slowest}");
    clear(stack, &beside).await?;
    Ok(Period { kind, began, times, groups, cpu, peaks, held, operations })
}

async fn load(stack: &Stack, (group, customers): &Beside, time: Duration) -> Result<(), String> {
    let tenants: Vec<String> = customers.iter().map(|customer| customer.tenant.clone()).collect();
    if group.burst > 0 {
        let events = group.burst * group.count * time.as_secs() as usize;
        customers.iter().for_each(|customer| customer.site.expect(events));
        // When it comes is the measurement's choice.
        tokio::time::sleep(BURST_AFTER).await;
        return at_once(&stack.db, &tenants, events, 0).await;
    }
    stream(&stack.db, &tenants, group.rate * group.count as f64, time).await.map(drop)
}

fn got((group, customers): &Beside, began: Instant, ended: Instant) -> Got {
    let between = |from| customers.iter().map(|customer| customer.site.requests_between(from, ended)).sum::<usize>();
    let begun = began + (ended - began) / 3;
    Got {
        name: group.name,
        requests: between(began),
        per_second: between(begun) as f64 / (ended - begun).as_secs_f64(),
        capacity: group.capacity(),
    }
}

/// Takes the bad endpoints and all that they are owed out of the system.
async fn clear(stack: &Stack, beside: &[Beside]) -> Result<(), String> {
    let customers = || beside.iter().flat_map(|(_, customers)| customers);
    let (ids, tenants): (Vec<_>, Vec<_>) = customers().map(|one| (one.endpoint, one.tenant.clone())).unzip();
    customers().for_each(|customer| customer.site.behave(Manner::Accept(0)));
    let quiet = async || {
        forget(&stack.db, &ids, &tenants).await.ok()?;
        stack.broker.purge_delayed().await.ok()?;
        stack.relayed(Duration::ZERO).await.ok()?;
        let depth = stack.broker.depth().await.ok()?;
        let open: usize = customers().map(|customer| customer.site.open()).sum();
        (depth.work + depth.delay == 0 && open == 0 && stack.held().await.ok()? == 0).then_some(())
    };
    if !beside.is_empty() {
        wait_for("quiet after a period", QUIET, quiet).await?;
        vacuum(&stack.db).await.map_err(|error| error.to_string())?;
    }
    Ok(())
}
