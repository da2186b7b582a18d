//! The primary of PostgreSQL dies under load and its standby takes over, three times: while a commit waits until the standby
//! has applied it, until it has received it, and not at all. Relays and workers find the new primary by themselves, among the
//! hosts of their URL.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use crate::chaos::commits;
use crate::chaos::faults::{self, Happened, Verdict};
use crate::chaos::kind::{Durability, Kind, Role};
use crate::chaos::options::Options;
use crate::chaos::proxy::Proxy;
use crate::chaos::report::Report;
use crate::chaos::run::Running;
use crate::chaos::schedule::Fault;
use crate::chaos::stack::{Stack, patient, settings};
use crate::chaos::standby::{Standby, connect, wait_for_standby};
use crate::kit::operate;
use crate::kit::servers::daemon::free_port;

/// The load goes on for that long before each fault.
const BEFORE: Duration = Duration::from_secs(10);
/// So long nothing reaches an asynchronous standby before the primary dies: a slow network, or a busy standby.
const BEHIND: Duration = Duration::from_secs(2);

struct Run {
    running: Running,
    standby: Standby,
    /// Of the producers and of this program, which use the primary alone.
    door: Proxy,
    dir: PathBuf,
    happened: Vec<Happened>,
    measured: BTreeMap<&'static str, String>,
}

pub async fn run(options: &Options, dir: &Path) -> Result<Report, String> {
    let (primary, rabbitmq) = operate::start(dir, &[], "", "").await?;
    let standby = Standby::of(&primary, dir, "standby-0", free_port()).await?;
    let hosts = format!("127.0.0.1:{},127.0.0.1:{}", standby.postgres.port, primary.port);
    let list = primary.url().replace(&format!("127.0.0.1:{}", primary.port), &hosts);
    let door = Proxy::deaf(&primary.url());
    let url = door.url(&primary.url());
    // The standby is first in it: it is passed over until it is the primary.
    let settings = settings(patient(vec![("database.url", format!("{list}?target_session_attrs=read-write"))]));
    let stack = Stack::on(None, dir, settings, (primary, rabbitmq), url).await?;
    let running = Running::on(stack, options.seed());
    running.start_services(&[Role::Relay, Role::Worker]).await;
    let producing = running.produce(options.rate(), options.events());
    running.flows().await?;
    let dir = dir.to_owned();
    let mut run = Run { running, standby, door, dir, happened: Vec::new(), measured: BTreeMap::new() };
    let mut problems = Vec::new();
    for durability in Durability::ALL {
        problems.extend(run.fail_over(durability).await?);
    }
    producing.finish().await?;
    let Run { running, happened, measured, .. } = run;
    let mut report = running.end("failover", happened, measured).await?;
    report.problems.extend(problems);
    Ok(report)
}

impl Run {
    /// What went wrong beside the audit.
    async fn fail_over(&mut self, durability: Durability) -> Result<Option<String>, String> {
        let stack = self.running.stack.clone();
        wait_for_standby(&*stack.postgres.lock().await, durability).await?;
        // The load goes on for that long.
        tokio::time::sleep(BEFORE).await;
        let commit = commits::measure(&stack).await;
        let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
        let mut lost = Lost::default();
        let doing = async {
            lost = self.take_over(&stack, durability).await?;
            Ok(Verdict::of(lost.to_string()))
        };
        let fault = Fault { kind: Kind::Failover(durability), target: 0, hold: Duration::ZERO };
        let happened = faults::watch(&stack, fault, stack.clock.now(), false, doing).await;
        self.happened.push(happened);
        let text = format!("{:.1} ms, p99 {:.1}; {lost}", ms(commit.p50), ms(commit.p99));
        self.measured.insert(durability.commit(), text);
        let wrong = durability != Durability::Asynchronous && lost.events > 0;
        self.stand_by(&stack).await?;
        Ok(wrong.then(|| format!("{}: {lost}", Kind::Failover(durability).name())))
    }

    /// The primary dies, and the standby is the primary.
    async fn take_over(&self, stack: &Stack, durability: Durability) -> Result<Lost, String> {
        if durability == Durability::Asynchronous {
            self.standby.hold_up();
            // It is behind by that much.
            tokio::time::sleep(BEHIND).await;
        }
        stack.postgres.lock().await.kill().await;
        let died = stack.clock.now();
        self.standby.promote().await?;
        let promoted = stack.clock.now() - died;
        let lost = self.count_lost(stack, promoted).await?;
        self.door.lead_to(&[&self.standby.postgres.url()]);
        Ok(lost)
    }

    /// What a producer knows to be committed, and the new primary does not know. No producer has met it yet.
    async fn count_lost(&self, stack: &Stack, promoted: f64) -> Result<Lost, String> {
        let known: Vec<Uuid> = stack.ledger.books().committed.keys().copied().collect();
        let missing = "select id from unnest($1::uuid[]) as known (id)
            where not exists (select from posthaste.outbox o where o.id = known.id)
              and not exists (select from posthaste.events e where e.id = known.id)";
        let mut connection = connect(&self.standby.postgres).await?;
        let asked = sqlx::query_scalar(missing).bind(&known).fetch_all(&mut connection).await;
        let missing: Vec<Uuid> = asked.map_err(|error| error.to_string())?;
        let notes = stack.receiver.notes();
        let delivered = |id: &&Uuid| (0..stack.endpoints.len()).any(|endpoint| notes.has_accepted(**id, endpoint));
        let delivered = missing.iter().filter(delivered).count();
        stack.ledger.lose(&missing);
        Ok(Lost { promoted, events: missing.len(), delivered })
    }

    /// The old primary's place is taken by a new standby, at its port.
    async fn stand_by(&mut self, stack: &Stack) -> Result<(), String> {
        let mut primary = stack.postgres.lock().await;
        let name = format!("standby-{}", self.happened.len());
        let standby = Standby::of(&self.standby.postgres, &self.dir, &name, primary.port).await?;
        let old = std::mem::replace(&mut self.standby, standby);
        *primary = old.postgres;
        Ok(())
    }
}

/// What a failover has cost.
#[derive(Debug, Default)]
struct Lost {
    /// Seconds from the end of the old primary.
    promoted: f64,
    events: usize,
    delivered: usize,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Lost { promoted, events, delivered } = self;
        write!(
            f,
            "promoted after {promoted:.1} s; {events} acknowledged events lost, {delivered} of them delivered before"
        )
    }
}
