//! Explores every history of a scenario, breadth first, so that a violation comes with a shortest history.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Write;
use std::hash::{BuildHasherDefault, Hasher};
use std::time::{Duration, Instant};

use posthaste::domain::backoff::{DelayQueues, Policy, Settings};
use posthaste::domain::decision::{Decision, our_fault_pause_ms};
use posthaste::domain::ids::DeliveryKey;
use posthaste::domain::outcome::Outcome;
use uuid::Uuid;

use crate::faults::{self, Fault};
use crate::reconcile::Markers;
use crate::rules::Rules;
use crate::world::{Answer, Budget, MOST, World};
use crate::{invariants, reconcile, relay, worker};

/// A bound on the memory of a scenario that grew by mistake.
const MOST_STATES: usize = 8_000_000;

/// Which part of the protocol is explored, and how far.
#[derive(Clone, Debug)]
pub struct Scenario {
    pub name: &'static str,
    pub max_attempts: u8,
    pub budget: Budget,
    pub faults: &'static [Fault],
    pub answers: Vec<Answer>,
    pub markers: Markers,
    /// A message that is handed out again has been handed out too often.
    pub poison: bool,
}

pub struct Model {
    pub scenario: Scenario,
    pub rules: Rules,
    pub queues: DelayQueues,
    decisions: Vec<Decision>,
}

impl Model {
    pub fn new(scenario: Scenario, rules: Rules) -> Model {
        let policy = policy();
        let queues = DelayQueues::new(policy.delays_ms());
        let key = DeliveryKey { event_id: Uuid::nil(), endpoint_id: Uuid::nil() };
        let decide = |answer, n| (rules.decide)(&outcome(answer), key, n, n, &policy, &queues);
        let all = Answer::ALL.into_iter();
        let decisions = all.flat_map(|answer| (1..=i32::from(MOST)).map(move |n| decide(answer, n))).collect();
        Model { scenario, rules, queues, decisions }
    }

    /// What the outcome of attempt `n` leads to.
    pub fn decision(&self, answer: Answer, n: u8) -> &Decision {
        &self.decisions[answer as usize * usize::from(MOST) + usize::from(n) - 1]
    }

    /// For how long a fault of ours holds a delivery.
    pub fn pause_ms(&self) -> u64 {
        our_fault_pause_ms(0)
    }

    /// Everything that can happen next.
    pub fn moves(&self, world: &World, out: &mut Vec<Move>) {
        out.clear();
        let mut moves = Moves { model: self, out };
        relay::moves(world, &mut moves);
        worker::moves(world, &mut moves);
        reconcile::moves(world, &mut moves);
        faults::moves(world, &mut moves);
    }
}

pub fn policy() -> Policy {
    let settings = Settings {
        schedule: vec![Duration::from_secs(30), Duration::from_secs(120), Duration::from_secs(600)],
        jitter_bps: 0,
        slots: 1,
        budget: 0,
        permanent_status_codes: [].into(),
        max_retry_after: Duration::from_secs(3600),
        max_pause: Duration::from_secs(3600),
    };
    Policy::new("model", &settings).expect("the schedule is valid")
}

pub fn outcome(answer: Answer) -> Outcome {
    let status = |status| Outcome::response(status, None);
    match answer {
        Answer::Success => status(200),
        Answer::Failure => status(500),
        Answer::Gone => status(410),
        Answer::ComeBackLater => Outcome::response(429, Some(Duration::from_secs(3000))),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Relay,
    Worker(usize),
    Requeue,
    Operator,
    Time,
    Broker,
    Database,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// Happens by itself: the system rests only when none is left.
    Step,
    /// Somebody's decision.
    Choice,
    Fault,
}

/// One effect.
#[derive(Clone, Copy)]
pub struct Move {
    pub who: Who,
    what: &'static str,
    kind: Kind,
    /// The attempt that the message asked for by which a worker changed the row.
    pub by_message: Option<u8>,
    pub world: World,
}

/// Gathers what can happen next.
pub struct Moves<'a> {
    pub model: &'a Model,
    out: &'a mut Vec<Move>,
}

impl Moves<'_> {
    pub fn step(&mut self, who: Who, what: &'static str, world: World) {
        self.push(who, what, Kind::Step, None, world);
    }

    pub fn by_message(&mut self, who: Who, what: &'static str, n: u8, world: World) {
        self.push(who, what, Kind::Step, Some(n), world);
    }

    pub fn choice(&mut self, who: Who, what: &'static str, world: World) {
        self.push(who, what, Kind::Choice, None, world);
    }

    pub fn fault(&mut self, who: Who, what: &'static str, world: World) {
        self.push(who, what, Kind::Fault, None, world);
    }

    fn push(&mut self, who: Who, what: &'static str, kind: Kind, by_message: Option<u8>, world: World) {
        self.out.push(Move { who, what, kind, by_message, world: world.canonical() });
    }
}

/// What was explored.
#[derive(Debug)]
pub struct Explored {
    pub states: usize,
    pub moves: usize,
    pub rests: usize,
    pub took: Duration,
}

/// A broken rule, and the shortest history that breaks it.
#[derive(Debug)]
pub struct Broken {
    pub rule: String,
    pub history: String,
}

struct Search<'a> {
    model: &'a Model,
    known: HashMap<World, u32, BuildHasherDefault<Mix>>,
    states: Vec<World>,
    /// How each state was reached first.
    origins: Vec<(u32, Who, &'static str)>,
    /// Steps that happen by themselves.
    edges: Vec<(u32, u32)>,
}

/// Explores everything, or returns the first violation.
pub fn explore(model: &Model) -> Result<Explored, Broken> {
    let began = Instant::now();
    let start = World::start(model.scenario.budget);
    let mut search = Search {
        model,
        known: HashMap::default(),
        states: vec![start],
        origins: vec![(0, Who::Operator, "start")],
        edges: Vec::new(),
    };
    search.known.insert(start, 0);
    let (mut at, mut moves, mut rests, mut out) = (0, 0, 0, Vec::new());
    while at < search.states.len() {
        let world = search.states[at];
        model.moves(&world, &mut out);
        moves += out.len();
        for taken in &out {
            search.take(at as u32, &world, taken)?;
        }
        if out.iter().all(|taken| taken.kind != Kind::Step) {
            invariants::rest(model, &world).map_err(|rule| search.broken(rule, at as u32, None))?;
            rests += 1;
        }
        at += 1;
    }
    search.no_endless_run()?;
    Ok(Explored { states: search.states.len(), moves, rests, took: began.elapsed() })
}

impl Search<'_> {
    fn take(&mut self, from: u32, before: &World, taken: &Move) -> Result<(), Broken> {
        if let Err(rule) = invariants::step(self.model, before, taken) {
            return Err(self.broken(rule, from, Some(taken)));
        }
        let fresh = self.states.len() as u32;
        let to = match self.known.entry(taken.world) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(place) => {
                place.insert(fresh);
                assert!(self.states.len() < MOST_STATES, "{}: too many states", self.model.scenario.name);
                self.states.push(taken.world);
                self.origins.push((from, taken.who, taken.what));
                invariants::state(self.model, &taken.world).map_err(|rule| self.broken(rule, fresh, None))?;
                fresh
            }
        };
        if taken.kind == Kind::Step {
            self.edges.push((from, to));
        }
        Ok(())
    }

    /// Left alone, every run comes to rest: the steps that happen by themselves form no circle. Together with the check
    /// of every state of rest this says that no row is ever stuck.
    fn no_endless_run(&self) -> Result<(), Broken> {
        let mut open = vec![0u32; self.states.len()];
        let mut first = vec![0u32; self.states.len() + 1];
        for (from, to) in &self.edges {
            open[*from as usize] += 1;
            first[*to as usize + 1] += 1;
        }
        for at in 1..first.len() {
            first[at] += first[at - 1];
        }
        let mut place = first.clone();
        let mut sources = vec![0u32; self.edges.len()];
        for (from, to) in &self.edges {
            sources[place[*to as usize] as usize] = *from;
            place[*to as usize] += 1;
        }
        let mut ended: Vec<u32> = (0..open.len() as u32).filter(|at| open[*at as usize] == 0).collect();
        let mut count = 0;
        while let Some(at) = ended.pop() {
            count += 1;
            for from in &sources[first[at as usize] as usize..first[at as usize + 1] as usize] {
                open[*from as usize] -= 1;
                if open[*from as usize] == 0 {
                    ended.push(*from);
                }
            }
        }
        let endless = open.iter().position(|open| *open > 0).filter(|_| count < self.states.len());
        endless.map_or(Ok(()), |at| Err(self.broken("a run may never come to rest".into(), at as u32, None)))
    }

    fn broken(&self, rule: String, at: u32, last: Option<&Move>) -> Broken {
        let mut path = vec![at];
        while path[path.len() - 1] != 0 {
            path.push(self.origins[path[path.len() - 1] as usize].0);
        }
        let mut history = String::new();
        for at in path.iter().rev() {
            let (_, who, what) = self.origins[*at as usize];
            let _ = writeln!(history, "  {who:?}: {what}\n      {}", brief(&self.states[*at as usize]));
        }
        if let Some(taken) = last {
            let _ = writeln!(history, "  {:?}: {}\n      {}", taken.who, taken.what, brief(&taken.world));
        }
        Broken { rule, history }
    }
}

fn brief(world: &World) -> String {
    let row = world.row.map_or("no row".into(), |row| {
        format!("{:?} attempts={} base={} due={:?}", row.status, row.attempts, row.base, row.due)
    });
    let hands: Vec<String> = world
        .workers
        .iter()
        .filter(|worker| !worker.is_idle())
        .map(|worker| {
            let mark = if worker.redelivered { " redelivered" } else { "" };
            format!("n={}{mark} {:?} {:?}", worker.n, worker.stage, worker.channel)
        })
        .collect();
    format!(
        "{row}; broker {:?}; hands {hands:?}; batch {:?}; {:?}; requeue {:?}",
        world.broker, world.batch, world.outgoing, world.requeue
    )
}

/// Multiplies and rotates: fast where the default hasher would take most of the time, and good enough for a table.
#[derive(Default)]
pub struct Mix(u64);

impl Mix {
    fn mix(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.mix(u64::from(*byte)));
    }

    fn write_u8(&mut self, value: u8) {
        self.mix(value.into());
    }

    fn write_u64(&mut self, value: u64) {
        self.mix(value);
    }

    fn write_u128(&mut self, value: u128) {
        self.mix(value as u64);
        self.mix((value >> 64) as u64);
    }

    fn write_isize(&mut self, value: isize) {
        self.mix(value as u64);
    }

    fn finish(&self) -> u64 {
        // The table takes its bucket from the low bits, which the multiplication mixes least.
        self.0 ^ (self.0 >> 32)
    }
}
