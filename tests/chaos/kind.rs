//! The kinds of fault: what they are called, whom they hit, and how long they last.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::chaos::schedule::{ENDPOINTS, RELAYS, WORKERS};

use Kind::*;
use Role::{Relay, Worker};
use Server::{Broker, Postgres};

/// Longer than every time-out and heartbeat of the run.
const FREEZE: Duration = Duration::from_secs(12);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Relay,
    Worker,
}

impl Role {
    pub fn count(self) -> usize {
        match self {
            Relay => RELAYS,
            Worker => WORKERS,
        }
    }

    /// Of the binary.
    pub fn command(self) -> &'static str {
        match self {
            Relay => "relay",
            Worker => "worker",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Server {
    Postgres,
    Broker,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// SIGKILL, then started again.
    Kill(Role),
    /// SIGKILL of the server with all its processes, then started again on the same data.
    KillServer(Server),
    /// SIGTERM, then started again.
    Stop(Role),
    RestartServer(Server),
    /// SIGSTOP of a worker, then SIGCONT.
    Freeze,
    /// Connections are closed, and new ones refused.
    Cut(Role, Server),
    /// Connections stay open and nothing comes through.
    Swallow(Role, Server),
    /// Connections of the relay that leads to PostgreSQL stay open, and nothing comes through for far longer than a session
    /// with locks may be silent.
    SwallowLeader,
    /// PostgreSQL carries out what the process asks for, and the connection is closed in place of the answer.
    LoseAnswers(Role),
    /// The broker's memory alarm: it takes no messages.
    Alarm,
    DeleteWorkQueue,
    DeleteDelayQueue,
    /// The alarm while the endpoints refuse some of the events.
    AlarmWhileFailing,
    /// A delay queue is deleted, and the workers may not declare it, while the endpoints refuse some of the events.
    ForbidDelayQueue,
    /// The broker comes back with an empty data directory.
    Wipe,
    /// An endpoint answers 500, never answers, or resets the connection.
    ReceiverFails,
    ReceiverHangs,
    ReceiverResets,
    /// All workers are killed again and again, each time with requests under way that nobody answers.
    CrashLoop,
    /// Another session has an endpoint's row locked.
    LockEndpoint,
    /// SIGTERM while a process has lost a server and tries to connect again, then started again.
    StopReconnecting(Role, Server),
    /// SIGKILL of all relays while they sleep.
    KillAsleep,
    /// SIGSTOP of all relays while they sleep, then SIGCONT.
    FreezeAsleep,
    /// Of a cluster of brokers. No schedule draws it.
    Node(NodeFault),
    /// SIGKILL of PostgreSQL's primary, whose standby takes its place. No schedule draws it either.
    Failover(Durability),
}

/// What a producer's commit waits for on the standby.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Durability {
    RemoteApply,
    On,
    /// For nothing.
    Asynchronous,
}

impl Durability {
    pub const ALL: [Durability; 3] = [Durability::RemoteApply, Durability::On, Durability::Asynchronous];

    fn name(self) -> &'static str {
        match self {
            Durability::RemoteApply => "failover, remote_apply",
            Durability::On => "failover, on",
            Durability::Asynchronous => "failover, asynchronous",
        }
    }

    /// Of what is measured beside it.
    pub fn commit(self) -> &'static str {
        match self {
            Durability::RemoteApply => "a commit, remote_apply",
            Durability::On => "a commit, on",
            Durability::Asynchronous => "a commit, asynchronous standby",
        }
    }
}

/// What happens to one node of a cluster. What it does not end by itself, another one ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NodeFault {
    /// SIGKILL of a node that leads few queues or none, of one that leads most of them, of any.
    KillFollower,
    KillLeader,
    KillOther,
    StartFollower,
    StartLeader,
    StartOther,
    /// Nothing comes through between the leader and the other nodes; clients reach all of them.
    CutOff,
    Reconnect,
    /// SIGSTOP of the leader, for longer than the others wait for a word of it.
    Freeze,
    Thaw,
    /// SIGKILL and a start: a node that was frozen finds its cluster partitioned, and stays outside.
    Restart,
    /// SIGKILL of the leader, and all that it had is deleted.
    Lose,
    /// It is forgotten, a new node joins, and every queue gets a member on it.
    Replace,
}

impl NodeFault {
    fn name(self) -> &'static str {
        match self {
            NodeFault::KillFollower => "kill -9 follower node",
            NodeFault::KillLeader => "kill -9 leader node",
            NodeFault::KillOther => "kill -9 node beside the new one",
            NodeFault::StartFollower => "start follower node",
            NodeFault::StartLeader => "start leader node",
            NodeFault::StartOther => "start node beside the new one",
            NodeFault::CutOff => "cut leader node off",
            NodeFault::Reconnect => "reconnect node",
            NodeFault::Freeze => "freeze leader node",
            NodeFault::Thaw => "thaw node",
            NodeFault::Restart => "restart thawed node",
            NodeFault::Lose => "lose leader node for good",
            NodeFault::Replace => "replace node",
        }
    }
}

/// How often a crash loop kills: three times make suspects of what the workers have in hand, two more leave them to be tried
/// alone, and after three more they would be proven to be what kills, if all of them were tried.
pub const CRASHES: usize = 9;

/// What the kinds are called, in the order in which a schedule draws from them.
const NAMES: [(Kind, &str); 37] = [
    (Kill(Relay), "kill -9 relay"),
    (Kill(Worker), "kill -9 worker"),
    (KillServer(Broker), "kill -9 broker"),
    (KillServer(Postgres), "kill -9 PostgreSQL"),
    (Stop(Relay), "SIGTERM relay"),
    (Stop(Worker), "SIGTERM worker"),
    (RestartServer(Broker), "restart broker"),
    (RestartServer(Postgres), "restart PostgreSQL"),
    (Freeze, "freeze worker"),
    (Cut(Relay, Postgres), "cut relay - PostgreSQL"),
    (Cut(Relay, Broker), "cut relay - broker"),
    (Cut(Worker, Postgres), "cut worker - PostgreSQL"),
    (Cut(Worker, Broker), "cut worker - broker"),
    (Swallow(Relay, Postgres), "swallow relay - PostgreSQL"),
    (Swallow(Relay, Broker), "swallow relay - broker"),
    (Swallow(Worker, Postgres), "swallow worker - PostgreSQL"),
    (Swallow(Worker, Broker), "swallow worker - broker"),
    (SwallowLeader, "swallow leader - PostgreSQL"),
    (LoseAnswers(Relay), "lose answers to relay"),
    (LoseAnswers(Worker), "lose answers to worker"),
    (Alarm, "broker memory alarm"),
    (AlarmWhileFailing, "memory alarm, retries due"),
    (DeleteWorkQueue, "delete work queue"),
    (DeleteDelayQueue, "delete delay queue"),
    (ForbidDelayQueue, "forbid delay queue"),
    (Wipe, "wipe broker"),
    (ReceiverFails, "receiver answers 500"),
    (ReceiverHangs, "receiver hangs"),
    (ReceiverResets, "receiver resets"),
    (CrashLoop, "crash loop of all workers"),
    (LockEndpoint, "lock an endpoint's row"),
    (StopReconnecting(Relay, Postgres), "SIGTERM relay, no PostgreSQL"),
    (StopReconnecting(Relay, Broker), "SIGTERM relay, no broker"),
    (StopReconnecting(Worker, Postgres), "SIGTERM worker, no PostgreSQL"),
    (StopReconnecting(Worker, Broker), "SIGTERM worker, no broker"),
    (KillAsleep, "kill -9 all relays asleep"),
    (FreezeAsleep, "freeze all relays asleep"),
];

impl Kind {
    pub const ALL: [Kind; NAMES.len()] = {
        let mut all = [Kind::Freeze; NAMES.len()];
        let mut number = 0;
        while number < all.len() {
            all[number] = NAMES[number].0;
            number += 1;
        }
        all
    };

    pub fn name(self) -> &'static str {
        match self {
            Kind::Node(fault) => fault.name(),
            Kind::Failover(durability) => durability.name(),
            kind => NAMES.iter().find(|(known, _)| *known == kind).map_or("?", |(_, name)| name),
        }
    }

    /// How many workers may have had a request in flight whose outcome it can cost.
    pub fn workers_hit(self) -> usize {
        match self {
            // What was done without an answer is found out, not done again.
            Kind::LoseAnswers(_) => 0,
            Kind::Stop(_) | Kind::ReceiverFails | Kind::ReceiverHangs | Kind::ReceiverResets | Kind::LockEndpoint => 0,
            Kind::Kill(Role::Worker) | Kind::Freeze | Kind::Cut(Role::Worker, _) | Kind::Swallow(Role::Worker, _) => 1,
            Kind::StopReconnecting(Role::Worker, _) => 1,
            Kind::CrashLoop => CRASHES * WORKERS,
            // What was recorded while the standby was behind is forgotten.
            Kind::Failover(Durability::Asynchronous) => 3 * WORKERS,
            // A copy that was published twice may reach any worker, and so may what a server forgets or hands out again.
            _ => WORKERS,
        }
    }

    pub fn is_hard_kill(self) -> bool {
        use NodeFault::{KillFollower, KillLeader, KillOther, Lose, Restart};
        let node = matches!(self, Kind::Node(KillFollower | KillLeader | KillOther | Lose | Restart));
        node || matches!(self, Kind::Kill(_) | Kind::KillServer(_) | Kind::Wipe | Kind::KillAsleep | Kind::Failover(_))
    }

    /// What it shows could not be told from what another fault does.
    pub fn wants_to_be_alone(self) -> bool {
        matches!(self, Kind::CrashLoop | Kind::LockEndpoint | Kind::KillAsleep | Kind::FreezeAsleep)
    }

    pub fn is_receiver(self) -> bool {
        matches!(self, Kind::ReceiverFails | Kind::ReceiverHangs | Kind::ReceiverResets)
    }

    pub fn candidates(self) -> usize {
        match self {
            Kind::Kill(role)
            | Kind::Stop(role)
            | Kind::Cut(role, _)
            | Kind::Swallow(role, _)
            | Kind::LoseAnswers(role)
            | Kind::StopReconnecting(role, _) => role.count(),
            Kind::Freeze => WORKERS,
            Kind::CrashLoop | Kind::LockEndpoint => ENDPOINTS,
            Kind::ReceiverFails | Kind::ReceiverHangs | Kind::ReceiverResets | Kind::DeleteDelayQueue => ENDPOINTS,
            Kind::DeleteWorkQueue => 2,
            _ => 1,
        }
    }

    /// In quick runs no longer than it takes to show something.
    pub fn hold(self, quick: bool, rng: &mut StdRng) -> Duration {
        let milliseconds = match self {
            Kind::Kill(_) | Kind::Stop(_) | Kind::KillServer(_) | Kind::RestartServer(_) => 100..1_500,
            Kind::Freeze => return FREEZE,
            Kind::Cut(..) | Kind::LoseAnswers(_) => 300..3_000,
            // Or until another relay leads, if that takes longer.
            Kind::SwallowLeader if quick => 0..1,
            Kind::SwallowLeader => 35_000..60_000,
            // Shorter than the time-outs, or longer than all of them.
            Kind::Swallow(..) => [1_500..3_000, 9_000..11_000].choose(rng).cloned().unwrap_or(1_500..3_000),
            Kind::Alarm => 2_000..5_000,
            Kind::AlarmWhileFailing | Kind::ForbidDelayQueue if quick => 2_000..3_000,
            Kind::AlarmWhileFailing | Kind::ForbidDelayQueue => 3_000..6_000,
            Kind::DeleteWorkQueue | Kind::DeleteDelayQueue | Kind::Wipe => 0..1,
            Kind::Node(_) | Kind::Failover(_) => 0..1,
            Kind::ReceiverFails | Kind::ReceiverHangs | Kind::ReceiverResets => 2_000..6_000,
            // Of each life of the workers, from when they have work in hand. No request runs out of time.
            Kind::CrashLoop => 200..600,
            // Long enough for a circuit to be turned, and for a statement that waits to run out of time.
            Kind::LockEndpoint => 5_500..7_500,
            Kind::StopReconnecting(..) => 100..1_000,
            // Beside the time in which commits are measured.
            Kind::KillAsleep | Kind::FreezeAsleep => 0..1_000,
        };
        Duration::from_millis(rng.random_range(milliseconds))
    }
}
