//! Which faults happen, in which order, to whom and for how long: a pure function of the seed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use crate::chaos::kind::{Kind, Role, Server};

/// How many of each there are.
pub const RELAYS: usize = 2;
pub const WORKERS: usize = 3;
pub const ENDPOINTS: usize = 3;

/// The share of rounds with two faults at the same time. When quick, every fault that can has another one beside it.
const PAIRS: f64 = 0.25;
const PAIRS_WHEN_QUICK: f64 = 1.0;

/// What a fault takes for itself: two that want the same cannot happen at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    Process(usize),
    Server(Server),
    Endpoint(usize),
}

#[derive(Debug, Clone, Copy)]
pub struct Fault {
    pub kind: Kind,
    /// Which of its processes or endpoints.
    pub target: usize,
    /// From the fault to its end.
    pub hold: Duration,
}

impl Fault {
    fn draw(kind: Kind, quick: bool, rng: &mut StdRng) -> Fault {
        Fault { kind, target: rng.random_range(0..kind.candidates()), hold: kind.hold(quick, rng) }
    }

    /// Processes are numbered: the relays first, then the workers.
    pub fn process(&self) -> Option<usize> {
        match self.kind {
            Kind::Kill(role)
            | Kind::Stop(role)
            | Kind::Cut(role, _)
            | Kind::Swallow(role, _)
            | Kind::LoseAnswers(role)
            | Kind::StopReconnecting(role, _) => match role {
                Role::Relay => Some(self.target),
                Role::Worker => Some(RELAYS + self.target),
            },
            Kind::Freeze => Some(RELAYS + self.target),
            _ => None,
        }
    }

    fn scopes(&self) -> Vec<Scope> {
        match self.kind {
            Kind::KillServer(server) | Kind::RestartServer(server) => vec![Scope::Server(server)],
            Kind::Alarm | Kind::DeleteWorkQueue | Kind::Wipe => vec![Scope::Server(Server::Broker)],
            // Any relay may lead, and a server that is down ends its session at once.
            Kind::SwallowLeader => (0..RELAYS).map(Scope::Process).chain([Scope::Server(Server::Postgres)]).collect(),
            // It needs messages in the queue, which a failing endpoint makes.
            Kind::DeleteDelayQueue => vec![Scope::Server(Server::Broker), Scope::Endpoint(self.target)],
            // They need retries, of which nothing else may keep any.
            Kind::AlarmWhileFailing | Kind::ForbidDelayQueue => {
                (0..ENDPOINTS).map(Scope::Endpoint).chain([Scope::Server(Server::Broker)]).collect()
            }
            kind if kind.is_receiver() => vec![Scope::Endpoint(self.target)],
            _ => self.process().map(Scope::Process).into_iter().collect(),
        }
    }

    pub fn excludes(&self, other: &Fault) -> bool {
        self.kind.wants_to_be_alone()
            || other.kind.wants_to_be_alone()
            || self.scopes().iter().any(|scope| other.scopes().contains(scope))
    }
}

/// The faults in rounds: those of a round begin together.
pub fn plan(seed: u64, count: usize, quick: bool) -> Vec<Vec<Fault>> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut kinds = Kind::ALL.to_vec();
    kinds.shuffle(&mut rng);
    kinds.truncate(count);
    while kinds.len() < count {
        kinds.extend(Kind::ALL.choose(&mut rng));
    }
    kinds.shuffle(&mut rng);
    let mut left: Vec<Fault> = kinds.into_iter().map(|kind| Fault::draw(kind, quick, &mut rng)).collect();
    let mut rounds = Vec::new();
    while let Some(first) = left.pop() {
        let mut round = vec![first];
        if rng.random_bool(if quick { PAIRS_WHEN_QUICK } else { PAIRS })
            && let Some(at) = left.iter().rposition(|fault| !fault.excludes(&first))
        {
            round.push(left.remove(at));
        }
        rounds.push(round);
    }
    rounds
}
