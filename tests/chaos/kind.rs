//! The kinds of fault: what they are called, whom they hit, and how long they last.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use crate::schedule::{ENDPOINTS, RELAYS, WORKERS};

/// Longer than every time-out and heartbeat of the run.
const FREEZE: Duration = Duration::from_secs(12);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    Relay,
    Worker,
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
}

/// How often a crash loop kills: three times make suspects of what the workers have in hand, two more leave them to be tried
/// alone, and after three more they would be proven to be what kills, if all of them were tried.
pub const CRASHES: usize = 9;

impl Kind {
    pub const ALL: &[Kind] = &[
        Kind::Kill(Role::Relay),
        Kind::Kill(Role::Worker),
        Kind::KillServer(Server::Broker),
        Kind::KillServer(Server::Postgres),
        Kind::Stop(Role::Relay),
        Kind::Stop(Role::Worker),
        Kind::RestartServer(Server::Broker),
        Kind::RestartServer(Server::Postgres),
        Kind::Freeze,
        Kind::Cut(Role::Relay, Server::Postgres),
        Kind::Cut(Role::Relay, Server::Broker),
        Kind::Cut(Role::Worker, Server::Postgres),
        Kind::Cut(Role::Worker, Server::Broker),
        Kind::Swallow(Role::Relay, Server::Postgres),
        Kind::Swallow(Role::Relay, Server::Broker),
        Kind::Swallow(Role::Worker, Server::Postgres),
        Kind::Swallow(Role::Worker, Server::Broker),
        Kind::SwallowLeader,
        Kind::LoseAnswers(Role::Relay),
        Kind::LoseAnswers(Role::Worker),
        Kind::Alarm,
        Kind::AlarmWhileFailing,
        Kind::DeleteWorkQueue,
        Kind::DeleteDelayQueue,
        Kind::ForbidDelayQueue,
        Kind::Wipe,
        Kind::ReceiverFails,
        Kind::ReceiverHangs,
        Kind::ReceiverResets,
        Kind::CrashLoop,
        Kind::LockEndpoint,
        Kind::StopReconnecting(Role::Relay, Server::Postgres),
        Kind::StopReconnecting(Role::Relay, Server::Broker),
        Kind::StopReconnecting(Role::Worker, Server::Postgres),
        Kind::StopReconnecting(Role::Worker, Server::Broker),
        Kind::KillAsleep,
        Kind::FreezeAsleep,
    ];

    pub fn name(self) -> &'static str {
        use Role::{Relay, Worker};
        use Server::{Broker, Postgres};
        match self {
            Kind::Kill(Relay) => "kill -9 relay",
            Kind::Kill(Worker) => "kill -9 worker",
            Kind::KillServer(Broker) => "kill -9 broker",
            Kind::KillServer(Postgres) => "kill -9 PostgreSQL",
            Kind::Stop(Relay) => "SIGTERM relay",
            Kind::Stop(Worker) => "SIGTERM worker",
            Kind::RestartServer(Broker) => "restart broker",
            Kind::RestartServer(Postgres) => "restart PostgreSQL",
            Kind::Freeze => "freeze worker",
            Kind::Cut(Relay, Postgres) => "cut relay - PostgreSQL",
            Kind::Cut(Relay, Broker) => "cut relay - broker",
            Kind::Cut(Worker, Postgres) => "cut worker - PostgreSQL",
            Kind::Cut(Worker, Broker) => "cut worker - broker",
            Kind::Swallow(Relay, Postgres) => "swallow relay - PostgreSQL",
            Kind::Swallow(Relay, Broker) => "swallow relay - broker",
            Kind::Swallow(Worker, Postgres) => "swallow worker - PostgreSQL",
            Kind::Swallow(Worker, Broker) => "swallow worker - broker",
            Kind::SwallowLeader => "swallow leader - PostgreSQL",
            Kind::LoseAnswers(Relay) => "lose answers to relay",
            Kind::LoseAnswers(Worker) => "lose answers to worker",
            Kind::Alarm => "broker memory alarm",
            Kind::AlarmWhileFailing => "memory alarm, retries due",
            Kind::DeleteWorkQueue => "delete work queue",
            Kind::DeleteDelayQueue => "delete delay queue",
            Kind::ForbidDelayQueue => "forbid delay queue",
            Kind::Wipe => "wipe broker",
            Kind::ReceiverFails => "receiver answers 500",
            Kind::ReceiverHangs => "receiver hangs",
            Kind::ReceiverResets => "receiver resets",
            Kind::CrashLoop => "crash loop of all workers",
            Kind::LockEndpoint => "lock an endpoint's row",
            Kind::StopReconnecting(Relay, Postgres) => "SIGTERM relay, no PostgreSQL",
            Kind::StopReconnecting(Relay, Broker) => "SIGTERM relay, no broker",
            Kind::StopReconnecting(Worker, Postgres) => "SIGTERM worker, no PostgreSQL",
            Kind::StopReconnecting(Worker, Broker) => "SIGTERM worker, no broker",
            Kind::KillAsleep => "kill -9 all relays asleep",
            Kind::FreezeAsleep => "freeze all relays asleep",
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
            // A copy that was published twice may reach any worker, and so may what a server forgets or hands out again.
            _ => WORKERS,
        }
    }

    pub fn is_hard_kill(self) -> bool {
        matches!(self, Kind::Kill(_) | Kind::KillServer(_) | Kind::Wipe | Kind::KillAsleep)
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
            | Kind::StopReconnecting(role, _) => match role {
                Role::Relay => RELAYS,
                Role::Worker => WORKERS,
            },
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
