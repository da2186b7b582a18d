//! From the release before to this one, back, and forward again, process by process, under load. Old and new processes work
//! side by side in both orders: new relays with old workers, and new workers with old relays. No error, nothing lost, nothing
//! delivered twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::chaos::faults::Happened;
use crate::chaos::kind::{Kind, Role};
use crate::chaos::options::Options;
use crate::chaos::receiver::Manner;
use crate::chaos::report::Report;
use crate::chaos::run::Running;
use crate::chaos::schedule::Fault;
use crate::chaos::stack::{Stack, settings};
use crate::wait_for;

/// The program of the release before.
const OLD: &str = "POSTHASTE_LAB_OLD_BINARY";
/// Answers 500 to a fifth of its events until the last change: retries and dead letters of one version are taken by the other.
const FAILING: usize = 1;
/// Is disabled by one version and enabled by the other, so that what one has held the other releases.
const DISABLED: usize = 2;
/// So many events are committed with each mixture of versions.
const MIXED: u64 = 1_000;
const PATIENCE: Duration = Duration::from_secs(120);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// None is this build.
type Program = Option<PathBuf>;

struct Upgrade {
    running: Running,
    old: Program,
    happened: Vec<Happened>,
    measured: BTreeMap<&'static str, String>,
}

pub async fn run(options: &Options, dir: &Path) -> Result<Report, String> {
    let old =
        std::env::var_os(OLD).map(PathBuf::from).ok_or("run it by scripts/upgrade, which builds the release before")?;
    let old = Some(old);
    let stack = Stack::start_as(old.clone(), dir, settings(Vec::new()), &[]).await?;
    let running = Running::on(stack, options.seed());
    running.start_services(&[Role::Relay, Role::Worker]).await;
    let producing = running.produce(options.rate(), options.events());
    running.flows().await?;
    running.stack.receiver.behave(FAILING, Manner::FailSome);
    let mut upgrade = Upgrade { running, old, happened: Vec::new(), measured: BTreeMap::new() };
    upgrade.versions().await?;
    upgrade.migrate().await?;
    upgrade.all_ways().await?;
    let Upgrade { running, happened, measured, .. } = upgrade;
    running.stack.receiver.behave(FAILING, Manner::Accept);
    producing.finish().await?;
    let logs: Vec<PathBuf> =
        running.stack.services.iter().map(|service| dir.join(format!("{}.log", service.name))).collect();
    let mut report = running.end("upgrade", happened, measured).await?;
    let errors = said(&logs, "ERROR")?;
    report.problems.extend(errors.into_iter().map(|(message, times)| format!("{times} times an error: {message}")));
    let warnings = said(&logs, "WARN")?.into_iter().map(|(message, times)| format!("{times} times '{message}'"));
    report.run.measured.insert("warnings", warnings.collect::<Vec<_>>().join(", "));
    Ok(report)
}

impl Upgrade {
    async fn versions(&mut self) -> Result<(), String> {
        let version = async |program| self.running.stack.run_as(program, &["--version"]).await;
        let (from, to) = (version(self.old.clone()).await?, version(None).await?);
        self.measured.insert("versions", format!("{} and {}", from.trim(), to.trim()));
        Ok(())
    }

    /// By this version, while all processes are old ones.
    async fn migrate(&mut self) -> Result<(), String> {
        let stack = self.running.stack.clone();
        let began = Instant::now();
        let pause = while_it_runs(&stack, stack.run_as(None, &["migrate"])).await?;
        let (took, pause) = (began.elapsed().as_secs_f64(), pause.as_secs_f64());
        let text = format!("{took:.1} s; for {pause:.2} s at most no request came");
        eprintln!("[{:6.1} s] migrated beside old processes: {text}", stack.clock.now());
        self.measured.insert("migrate beside old processes", text);
        self.mixed().await
    }

    async fn all_ways(&mut self) -> Result<(), String> {
        let (old, new) = (self.old.clone(), None);
        self.change(&old, &new, [Role::Relay, Role::Worker]).await?;
        // As an orchestrator would that goes back: with what its old image does first.
        self.running.stack.run_as(old.clone(), &["migrate"]).await?;
        self.change(&new, &old, [Role::Relay, Role::Worker]).await?;
        self.change(&old, &new, [Role::Worker, Role::Relay]).await
    }

    /// All processes, one after another.
    async fn change(&mut self, from: &Program, to: &Program, order: [Role; 2]) -> Result<(), String> {
        let disabled = self.running.stack.endpoint(DISABLED).to_string();
        let stack = self.running.stack.clone();
        stack.run_as(from.clone(), &["endpoint", "disable", &disabled, "--reason", "upgrade"]).await?;
        self.replace(order[0], to).await;
        self.commands(from).await?;
        self.commands(to).await?;
        stack.run_as(to.clone(), &["endpoint", "enable", &disabled]).await?;
        self.mixed().await?;
        self.replace(order[1], to).await;
        stack.run_as(to.clone(), &["requeue", "--all", "--yes"]).await?;
        self.mixed().await
    }

    async fn replace(&mut self, role: Role, to: &Program) {
        for target in 0..role.count() {
            let fault = Fault { kind: Kind::Stop(role), target, hold: Duration::ZERO };
            if let Some(number) = fault.process() {
                self.running.stack.services[number].become_program(to.clone());
            }
            self.happened.extend(self.running.rounds(vec![vec![fault]], 0.0).await);
        }
    }

    /// What an operator looks at.
    async fn commands(&self, program: &Program) -> Result<(), String> {
        for arguments in [
            &["stats", "--json"][..],
            &["endpoint", "list", "--json"],
            &["event", "list", "--json", "--limit", "10"],
            &["dead", "list", "--json", "--limit", "10"],
            &["requeue", "--all", "--dry-run"],
            &["topology", "check"],
        ] {
            self.running.stack.run_as(program.clone(), arguments).await?;
        }
        Ok(())
    }

    /// Until so many more events are committed and tried. The endpoint that refuses some may have an open circuit.
    async fn mixed(&self) -> Result<(), String> {
        let stack = &self.running.stack;
        let enough = self.running.ledger.committed() + MIXED;
        let committed = async || (self.running.ledger.committed() >= enough).then_some(());
        wait_for("more events", PATIENCE, committed).await?;
        let untouched = "select (select count(*) from posthaste.outbox where created_at < $1)
            + (select count(*) from posthaste.deliveries
                where attempts = 0 and status in ('pending', 'held') and created_at < $1 and endpoint_id <> $2)";
        let (now, failing) = (chrono::Utc::now(), stack.endpoint(FAILING));
        let tried = async || {
            let left: i64 = sqlx::query_scalar(untouched).bind(now).bind(failing).fetch_one(&stack.db).await.ok()?;
            (left == 0).then_some(())
        };
        wait_for("their first attempts", PATIENCE, tried).await
    }
}

/// The longest time meanwhile in which the receiver got no request.
async fn while_it_runs(stack: &Stack, work: impl Future<Output = Result<String, String>>) -> Result<Duration, String> {
    let mut work = std::pin::pin!(work);
    let (mut requests, mut since, mut longest) = (0, Instant::now(), Duration::ZERO);
    loop {
        tokio::select! {
            done = &mut work => return done.map(|_| longest.max(since.elapsed())),
            // The receiver is asked often instead of telling of each request.
            () = tokio::time::sleep(LOOK_AGAIN) => {}
        }
        let now = stack.receiver.notes().requests;
        longest = longest.max(since.elapsed());
        if now > requests {
            (requests, since) = (now, Instant::now());
        }
    }
}

/// Lines of this level in the logs of all processes: how often each message is there.
fn said(logs: &[PathBuf], level: &str) -> Result<BTreeMap<String, u64>, String> {
    let mut said = BTreeMap::new();
    for log in logs {
        let text = std::fs::read_to_string(log).map_err(|error| format!("{}: {error}", log.display()))?;
        let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
        for line in lines.filter(|line| line["level"] == level) {
            *said.entry(line["message"].as_str().unwrap_or("?").to_owned()).or_default() += 1;
        }
    }
    Ok(said)
}
