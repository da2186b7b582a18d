//! A system that works, with a Prometheus that watches it, and what is measured while something goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::incident::prometheus::Prometheus;
use crate::incident::rules::Targets;
use crate::incident::runbook::{Desk, Variables};
use crate::incident::traffic::Traffic;
use crate::isolation::receiver::Manner;
use crate::isolation::stack::{Customer, Stack};
use crate::kit::process::Process as Receiver;
use crate::kit::servers::daemon::free_port;
use crate::process::{Process, add_endpoint};
use crate::{kit, wait_for};

const START: Duration = Duration::from_secs(60);
/// The longest that an alert needs: a duty is overdue after two minutes.
const FIRES: Duration = Duration::from_secs(240);
const CLEARS: Duration = Duration::from_secs(300);
const QUIET: Duration = Duration::from_secs(300);
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// Of the customer to whom nothing happens.
const STEADY: &str = "steady";
const RATE: f64 = 10.0;

pub struct Scene {
    pub stack: Stack,
    pub prometheus: Prometheus,
    pub relay: Option<Process>,
    pub worker: Option<Process>,
    pub targets: Targets,
    _steady: (Receiver, Traffic),
    desk: Desk,
    watch: Watch,
}

/// What was seen since the incident began.
struct Watch {
    began: Instant,
    fired: BTreeMap<String, Duration>,
    repaired: Instant,
    cleared: BTreeMap<String, Duration>,
    commands: usize,
}

/// Their names.
pub type Alerts = &'static [&'static str];

/// What there is to say of one alert.
pub struct Seen {
    pub alert: &'static str,
    pub fired: Duration,
    pub cleared: Duration,
    /// Commands of its section that were run.
    pub commands: usize,
}

impl Watch {
    fn start() -> Watch {
        let now = Instant::now();
        Watch { began: now, fired: BTreeMap::new(), repaired: now, cleared: BTreeMap::new(), commands: 0 }
    }
}

impl Scene {
    pub async fn start(dir: &Path, name: &str, factor: u32) -> Result<Scene, String> {
        let stack = Stack::servers(dir, name, &[("telemetry.top_endpoints", "10")]).await?;
        let dir = dir.join(name);
        stack.listen()?;
        let targets = Targets { relay: free_port(), worker: free_port(), receivers: [free_port(), free_port()] };
        let prometheus = Prometheus::start(&dir, &targets, factor).await?;
        let desk = Desk::new(&dir, &stack)?;
        let (url, port) = address();
        let (_, secret) = add_endpoint(&stack.binary, STEADY, &url, &[]).await?;
        let receiver = receiver(&stack, (port, targets.receivers[0]), &secret)?;
        let traffic = Traffic::start(&stack.db, vec![STEADY.to_owned()], RATE);
        let watch = Watch::start();
        let _steady = (receiver, traffic);
        let (relay, worker) = (None, None);
        let mut scene = Scene { stack, prometheus, relay, worker, targets, _steady, desk, watch };
        scene.start_relay().await?;
        scene.start_worker().await?;
        Ok(scene)
    }

    pub async fn start_relay(&mut self) -> Result<(), String> {
        self.relay = Some(self.process("relay", self.targets.relay).await?);
        Ok(())
    }

    pub async fn start_worker(&mut self) -> Result<(), String> {
        self.worker = Some(self.process("worker", self.targets.worker).await?);
        Ok(())
    }

    async fn process(&self, role: &str, port: u16) -> Result<Process, String> {
        let process = Process::start(&self.stack.binary, role, role, port);
        wait_for(role, START, async || process.is_ready().await.then_some(())).await?;
        Ok(process)
    }

    /// A customer whose service verifies signatures with this secret, or with its endpoint's.
    pub async fn receiver(&self, tenant: &str, secret: Option<&str>) -> Result<(Uuid, Receiver, Restart), String> {
        let (url, port) = address();
        let (endpoint, own) = add_endpoint(&self.stack.binary, tenant, &url, &[]).await?;
        let ports = (port, self.targets.receivers[1]);
        let receiver = receiver(&self.stack, ports, secret.unwrap_or(&own))?;
        Ok((endpoint, receiver, Restart { ports, secret: own }))
    }

    pub fn restarted(&self, restart: &Restart) -> Result<Receiver, String> {
        receiver(&self.stack, restart.ports, &restart.secret)
    }

    pub async fn customers(&self, name: &str, count: usize, manner: Manner) -> Result<Vec<Customer>, String> {
        self.stack.customers(name, count, manner).await
    }

    pub async fn sql(&self, statement: &str) -> Result<(), String> {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&self.stack.db).await;
        done.map(drop).map_err(|error| format!("{statement}: {error}"))
    }

    /// Until nothing fires, and everything can be seen.
    pub async fn calm(&self) -> Result<(), String> {
        let calm = async || self.prometheus.firing().await.is_ok_and(|firing| firing.is_empty()).then_some(());
        let up = async || {
            let up = self.prometheus.count("up{job!=\"posthaste-receiver\"} == 1").await;
            let leads = self.prometheus.count("sum(posthaste_relay_leads) == 1").await;
            (up == Ok(2) && leads == Ok(1)).then_some(())
        };
        wait_for("all processes in Prometheus", QUIET, up).await?;
        match wait_for("no alert", QUIET, calm).await {
            Ok(()) => Ok(()),
            Err(error) => Err(format!("{error}: {:?}", self.prometheus.firing().await)),
        }
    }

    /// What is wrong begins now.
    pub fn begin(&mut self) {
        self.watch = Watch::start();
    }

    pub async fn fire(&mut self, alerts: Alerts) -> Result<(), String> {
        self.fire_while(alerts, async |_| Ok(())).await
    }

    /// Until all of them have fired; what is to be done meanwhile is done again and again.
    pub async fn fire_while(
        &mut self,
        alerts: Alerts,
        mut meanwhile: impl AsyncFnMut(&mut Scene) -> Result<(), String>,
    ) -> Result<(), String> {
        loop {
            meanwhile(self).await?;
            let passed = self.watch.began.elapsed();
            for alert in self.prometheus.firing().await.unwrap_or_default() {
                self.watch.fired.entry(alert).or_insert(passed);
            }
            if alerts.iter().all(|alert| self.watch.fired.contains_key(*alert)) {
                return Ok(());
            }
            if passed > FIRES {
                let fired: BTreeSet<&String> = self.watch.fired.keys().collect();
                return Err(format!("not all of {alerts:?} fired within {FIRES:?}, only {fired:?}"));
            }
            // Prometheus tells nobody but an Alertmanager.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// Runs the commands of a section of the runbook, as they are written.
    pub async fn follow(&mut self, section: &str, variables: Variables<'_>) -> Result<(), String> {
        self.watch.commands += self.desk.follow(&self.stack, section, variables).await?;
        Ok(())
    }

    /// What was wrong is repaired now.
    pub fn repaired(&mut self) {
        self.watch.repaired = Instant::now();
    }

    /// Until none of them fires any more, and nothing else does.
    pub async fn clear(&mut self, alerts: Alerts) -> Result<Vec<Seen>, String> {
        let mut open: BTreeSet<&'static str> = alerts.iter().copied().collect();
        while !open.is_empty() {
            let passed = self.watch.repaired.elapsed();
            if let Ok(firing) = self.prometheus.firing().await {
                let cleared: Vec<&str> = open.iter().copied().filter(|alert| !firing.contains(*alert)).collect();
                for alert in cleared {
                    open.remove(alert);
                    self.watch.cleared.insert(alert.to_owned(), passed);
                }
            }
            if passed > CLEARS {
                return Err(format!("{open:?} did not clear within {CLEARS:?}"));
            }
            // As above.
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        let Watch { fired, cleared, commands, .. } = &self.watch;
        let seen = |alert| Seen { alert, fired: fired[alert], cleared: cleared[alert], commands: *commands };
        Ok(alerts.iter().map(|alert| seen(*alert)).collect())
    }

    /// What fired beside them.
    pub fn also_fired(&self, alerts: Alerts) -> Vec<String> {
        self.watch.fired.keys().filter(|alert| !alerts.contains(&alert.as_str())).cloned().collect()
    }
}

/// How a service of a customer is started again with the right secret.
pub struct Restart {
    ports: (u16, u16),
    secret: String,
}

fn address() -> (String, u16) {
    let port = free_port();
    (format!("http://127.0.0.1:{port}/hooks"), port)
}

fn receiver(stack: &Stack, (port, metrics): (u16, u16), secret: &str) -> Result<Receiver, String> {
    let (listen, metrics) = (format!("127.0.0.1:{port}"), format!("127.0.0.1:{metrics}"));
    let mut command =
        kit::binary::command(&["receiver", "--quiet", "--listen", &listen, "--metrics", &metrics], &stack.binary.dir);
    command.env("POSTHASTE_RECEIVER_SECRET", secret);
    let log = std::fs::File::options().create(true).append(true).open(stack.binary.dir.join("receiver.log"));
    Ok(Receiver::start(command, log.map_err(|error| error.to_string())?))
}
