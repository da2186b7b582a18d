//! The broker is a cluster of three, with every queue on all of them, and its nodes die, freeze, are cut off and are lost for
//! good under load. Before that, the same work with one node, to see what three cost.

mod measure;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use tokio::sync::Mutex;

use crate::chaos::cluster::{Cluster, NODES};
use crate::chaos::faults::{self, Happened, Verdict};
use crate::chaos::kind::{Kind, NodeFault, Role};
use crate::chaos::options::Options;
use crate::chaos::report::Report;
use crate::chaos::run::Running;
use crate::chaos::schedule::Fault;
use crate::chaos::stack::patient;
use measure::{Measured, measure};

/// The load goes on for that long with a node that is away, after everything works again.
const HOLD: Duration = Duration::from_secs(5);

struct Run {
    running: Running,
    cluster: Mutex<Cluster>,
    happened: Vec<Happened>,
}

pub async fn run(options: &Options, dir: &Path) -> Result<Report, String> {
    let running = Running::start(dir, patient(Vec::new()), &[], options.seed()).await?;
    let stack = running.stack.clone();
    stack.receiver.take_time((0, 2));
    running.start_services(&[Role::Relay, Role::Worker]).await;
    let one = stack.rabbitmq.lock().await.url();
    let one = measure(&stack, &one).await?;
    eprintln!("[{:6.1} s] one node: {one:?}", stack.clock.now());
    let cluster = move_to_cluster(&running, dir).await?;
    let three = measure(&stack, &cluster.urls()[0]).await?;
    eprintln!("[{:6.1} s] three nodes: {three:?}", stack.clock.now());
    cluster.is_whole(0).await?;
    stack.receiver.take_time((20, 80));
    let producing = running.produce(options.rate(), options.events());
    let mut run = Run { running, cluster: Mutex::new(cluster), happened: Vec::new() };
    run.faults().await?;
    producing.finish().await?;
    let Run { running, happened, .. } = run;
    running.end("cluster", happened, compared(one, three)).await
}

/// The processes go on with another broker, which is empty. The one that they had is stopped.
async fn move_to_cluster(running: &Running, dir: &Path) -> Result<Cluster, String> {
    let stack = &running.stack;
    let stopping = stack.services.iter().map(|service| service.stop());
    futures_util::future::join_all(stopping).await;
    stack.rabbitmq.lock().await.daemon.kill();
    let cluster = Cluster::start(dir).await?;
    stack.lead_brokers_to(&cluster.urls());
    running.start_services(&[Role::Relay, Role::Worker]).await;
    Ok(cluster)
}

fn compared(one: Measured, three: Measured) -> BTreeMap<&'static str, String> {
    let ms = |time: Duration| time.as_secs_f64() * 1_000.0;
    let times = |one: Duration, three: Duration| {
        format!("{:.2} ms, of one node {:.2}: {:.2} times", ms(three), ms(one), ms(three) / ms(one))
    };
    let rates = |one: f64, three: f64| format!("{three:.0} a second, of one node {one:.0}: {:.2} times", three / one);
    BTreeMap::from([
        ("a confirm, p50", times(one.confirm_p50, three.confirm_p50)),
        ("a confirm, p99", times(one.confirm_p99, three.confirm_p99)),
        ("confirms, 64 at a time", rates(one.confirmed, three.confirmed)),
        ("deliveries of a burst", rates(one.delivered, three.delivered)),
    ])
}

impl Run {
    async fn faults(&mut self) -> Result<(), String> {
        self.running.flows().await?;
        self.away(NodeFault::KillFollower, NodeFault::StartFollower).await?;
        self.away(NodeFault::KillLeader, NodeFault::StartLeader).await?;
        self.away(NodeFault::CutOff, NodeFault::Reconnect).await?;
        self.away(NodeFault::Freeze, NodeFault::Thaw).await?;
        let new = self.away(NodeFault::Lose, NodeFault::Replace).await?;
        // Without the new node's members, no queue has a majority now.
        let old = (new + 1) % NODES;
        self.cause(NodeFault::KillOther, old).await;
        self.hold(old).await?;
        self.cause(NodeFault::StartOther, old).await;
        self.cluster.lock().await.is_whole(old).await
    }

    /// A node goes, and comes back. Which one it was.
    async fn away(&mut self, goes: NodeFault, comes: NodeFault) -> Result<usize, String> {
        let (leader, follower) = self.cluster.lock().await.leader_and_follower(0).await?;
        let node = if goes == NodeFault::KillFollower { follower } else { leader };
        self.cause(goes, node).await;
        self.hold(node).await?;
        self.cause(comes, node).await;
        if comes == NodeFault::Thaw {
            self.cause(NodeFault::Restart, node).await;
        }
        self.cluster.lock().await.is_whole(node).await?;
        Ok(node)
    }

    /// Until the others know that it is away, and a while longer.
    async fn hold(&self, node: usize) -> Result<(), String> {
        self.cluster.lock().await.runs((node + 1) % NODES, NODES - 1).await?;
        // The load goes on for that long.
        tokio::time::sleep(HOLD).await;
        Ok(())
    }

    async fn cause(&mut self, fault: NodeFault, node: usize) {
        let stack = self.running.stack.clone();
        let now = stack.clock.now();
        let doing = async { carry_out(&mut *self.cluster.lock().await, fault, node).await };
        let fault = Fault { kind: Kind::Node(fault), target: node, hold: Duration::ZERO };
        self.happened.push(faults::watch(&stack, fault, now, false, doing).await);
    }
}

async fn carry_out(cluster: &mut Cluster, fault: NodeFault, node: usize) -> Result<Verdict, String> {
    let really = |happened: bool| happened.then(Verdict::default).ok_or_else(|| "it was not running".to_owned());
    match fault {
        NodeFault::KillFollower | NodeFault::KillLeader | NodeFault::KillOther => really(cluster.kill(node)),
        NodeFault::StartFollower | NodeFault::StartLeader | NodeFault::StartOther => {
            cluster.start_again(node).await.map(|()| Verdict::default())
        }
        NodeFault::CutOff => cluster.cut_off(node).await.map(|()| Verdict::default()),
        NodeFault::Reconnect => cluster.reconnect(node).await.map(|()| Verdict::default()),
        NodeFault::Freeze => really(cluster.freeze(node, true)),
        NodeFault::Thaw => really(cluster.freeze(node, false)),
        NodeFault::Restart => {
            cluster.kill(node);
            cluster.start_again(node).await.map(|()| Verdict::default())
        }
        NodeFault::Lose => really(cluster.lose(node)?),
        NodeFault::Replace => cluster.replace(node).await.map(|()| Verdict::default()),
    }
}
