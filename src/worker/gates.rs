//! The gates of all endpoints that this worker is busy with, waiting at them, and what it has seen of the endpoints.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::ready::Ready;
use super::seen::{Changed, Seen};
use crate::domain::circuit::{Circuit, Health, Rules, Turn, Window};
use crate::domain::familiar::Familiar;
use crate::domain::gate::{Answer, Arrival, Gate, Limits, Ticket, Until, Why};
use crate::domain::outcome::OurFault;
use crate::domain::rooms::{Room, SLOW_MS};
use crate::store::activity::Report;

/// Whoever waits asks again this often, even if no request finishes.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// What failed so long ago, with nothing since, no longer counts towards a circuit.
const FORGET_MS: u64 = 600_000;
/// Endpoints in memory, about half a KiB each. Beyond it those at which nothing happened for longest go.
const MOST: usize = 50_000;

#[derive(Clone)]
pub struct Gates {
    start: Instant,
    all: Arc<Mutex<All>>,
}

#[derive(Default)]
struct All {
    entries: HashMap<Uuid, Entry>,
    familiar: Familiar<Uuid>,
    changed: Changed,
}

#[derive(Default)]
struct Entry {
    gate: Gate,
    window: Window,
    seen: Seen,
    finished: Arc<Notify>,
    touched_ms: u64,
    resumed_us: i64,
}

/// Permit to make one request. Dropping it tells the gate that the request is over.
pub struct Permit {
    gates: Gates,
    endpoint: Uuid,
    ticket: Ticket,
}

/// What the outcome of a request says about its endpoint.
pub struct Feedback {
    pub health: Health,
    /// It asked to slow down, for a time or for none in particular.
    pub slow_down: Option<Option<Duration>>,
    pub error: Option<String>,
}

/// What follows for the endpoint.
pub struct Reaction {
    pub turn: Option<Turn>,
    /// It asked for so much time that all workers should know.
    pub pause: Option<Duration>,
    pub keeps_failing: bool,
}

pub enum Entrance {
    Granted(Permit),
    Held { until: Until, why: Why },
}

impl Default for Gates {
    fn default() -> Gates {
        Gates { start: Instant::now(), all: Arc::default() }
    }
}

impl Gates {
    /// Waits at the endpoint's gate, for as long as the gate finds that reasonable.
    pub async fn enter(&self, known: &Ready, limits: Limits, arrival: Arrival) -> Entrance {
        let (began, endpoint) = (Instant::now(), known.id);
        let (mut answer, finished) = self.first(known, limits, arrival);
        // One place in the line for the whole wait: a new one after each look would be at its end again.
        let mut line = std::pin::pin!(finished.notified());
        loop {
            match answer {
                Answer::Send { ticket, pause_ms } => {
                    let permit = Permit { gates: self.clone(), endpoint, ticket };
                    if pause_ms > 0 {
                        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    }
                    return Entrance::Granted(permit);
                }
                Answer::Hold { until, why } => return Entrance::Held { until, why },
                Answer::Wait => {
                    let mut place = Place { gates: self, endpoint, left: false };
                    let called = tokio::time::timeout(ASK_AGAIN, line.as_mut()).await.is_ok();
                    place.left = true;
                    let (now, waited) = (self.now_ms(), began.elapsed().as_millis() as u64);
                    answer = self.lock().entry(endpoint, now).gate.ask_again(limits, arrival, now, waited);
                    if called {
                        line.set(finished.notified());
                        // It was called and does not go after all: the next one may.
                        if matches!(answer, Answer::Hold { .. }) {
                            finished.notify_one();
                        }
                    }
                }
            }
        }
    }

    fn first(&self, known: &Ready, limits: Limits, arrival: Arrival) -> (Answer, Arc<Notify>) {
        let now = self.now_ms();
        let mut all = self.lock();
        let entry = all.entry(known.id, now);
        entry.resume(known, now);
        (entry.gate.ask(limits, arrival, now), entry.finished.clone())
    }

    fn finished(&self, endpoint: Uuid, ticket: Ticket) {
        let now = self.now_ms();
        let mut all = self.lock();
        let entry = all.entry(endpoint, now);
        let took_ms = entry.gate.finished(ticket, now);
        entry.finished.notify_one();
        match took_ms {
            Some(..=SLOW_MS) => all.familiar.greet(endpoint, now),
            // One slow answer among many prompt ones is none to remember.
            Some(_) if entry.gate.room(true, now) == Room::Slow => all.familiar.forget(&endpoint),
            _ => {}
        }
    }

    /// What there is to report of the next endpoints that something happened at, at most this many. Those at which nothing
    /// happens any more are forgotten; what their gates remember is worth little by then.
    pub fn reports(&self, most: usize) -> Vec<Report> {
        let now = self.now_ms();
        let mut all = self.lock();
        let mut reports = Vec::new();
        for id in all.changed.take(most) {
            let Some(entry) = all.entries.get_mut(&id) else { continue };
            reports.extend(entry.seen.report(id, entry.gate.in_flight(), entry.gate.limited(now), now));
            if entry.is_idle(now) {
                all.entries.remove(&id);
            } else {
                all.changed.note(id);
            }
        }
        reports
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn lock(&self) -> MutexGuard<'_, All> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl All {
    fn entry(&mut self, endpoint: Uuid, now_ms: u64) -> &mut Entry {
        if self.entries.len() >= MOST && !self.entries.contains_key(&endpoint) {
            self.shrink(now_ms);
        }
        self.changed.note(endpoint);
        let entry = self.entries.entry(endpoint).or_default();
        entry.touched_ms = now_ms;
        entry
    }

    /// A tenth goes at once, so that looking for the oldest is rare. Whatever is under way stays, and what an endpoint asked
    /// for goes last: the long pauses are in the database as well.
    fn shrink(&mut self, now_ms: u64) {
        let at_rest = self.entries.iter().filter(|(_, entry)| entry.gate.in_flight() + entry.gate.waiting() == 0);
        let mut at_rest: Vec<(bool, u64, Uuid)> =
            at_rest.map(|(id, entry)| (!entry.gate.is_idle(now_ms), entry.touched_ms, *id)).collect();
        at_rest.sort_unstable();
        for (_, _, id) in at_rest.into_iter().take(MOST / 10) {
            self.entries.remove(&id);
        }
        self.changed.retain(|id| self.entries.contains_key(id));
    }
}

impl Entry {
    /// Forgets what was learned before an operator lifted the endpoint's pauses. Whoever knows less than that changes nothing.
    fn resume(&mut self, known: &Ready, now_ms: u64) {
        if known.resumed_us > self.resumed_us {
            self.resumed_us = known.resumed_us;
            if self.gate.lift(now_ms) {
                tracing::info!(endpoint_id = %known.id, "sent to as before: an operator has lifted its pauses");
            }
        }
    }

    fn is_idle(&mut self, now_ms: u64) -> bool {
        let forgiven = self.window.is_empty() || now_ms.saturating_sub(self.touched_ms) >= FORGET_MS;
        forgiven && self.gate.is_idle(now_ms) && self.seen.is_over(now_ms)
    }
}

impl Permit {
    /// The room in which its request should be made, as the endpoint answers at present.
    pub fn room(&self, known: &Ready) -> Room {
        let now = self.gates.now_ms();
        let mut all = self.gates.lock();
        // A worker that has just started goes by what others have said, once.
        if known.answers.swap(false, Ordering::Relaxed) {
            all.familiar.greet(self.endpoint, now);
        }
        let is_familiar = all.familiar.knows(&self.endpoint, now);
        all.entry(self.endpoint, now).gate.room(is_familiar, now)
    }

    /// The request begins now.
    pub fn begun(&self) {
        let now = self.gates.now_ms();
        self.gates.lock().entry(self.endpoint, now).gate.begun(self.ticket, now);
    }

    /// Folds the outcome into what this worker knows of the endpoint.
    pub fn report(&self, feedback: Feedback, circuit: Circuit, rules: &Rules) -> Reaction {
        let now = self.gates.now_ms();
        let mut all = self.gates.lock();
        let entry = all.entry(self.endpoint, now);
        let pause = feedback.slow_down.and_then(|asked| entry.gate.slow_down(self.ticket, asked, now));
        entry.seen.attempt(feedback.health, feedback.error, now);
        let keeps_failing = entry.window.keeps_failing(circuit, rules);
        Reaction { turn: entry.window.fold(feedback.health, circuit, rules, now), pause, keeps_failing }
    }

    /// A fault of ours: it is shown with the endpoint, and does not count against it.
    pub fn report_fault(&self, fault: OurFault) {
        let now = self.gates.now_ms();
        self.gates.lock().entry(self.endpoint, now).seen.fault(fault, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gates.finished(self.endpoint, self.ticket);
    }
}

/// A place among those who wait. A task that is dropped while it waits gives the place up.
struct Place<'a> {
    gates: &'a Gates,
    endpoint: Uuid,
    left: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.left
            && let Some(entry) = self.gates.lock().entries.get_mut(&self.endpoint)
        {
            entry.gate.stop_waiting();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn there_are_never_too_many_and_what_is_under_way_is_not_forgotten() {
        let gates = Gates::default();
        let busy = Ready::for_test(Uuid::from_u128(u128::MAX));
        let limits = Limits { max_in_flight: 1, rate: None };
        let Entrance::Granted(permit) = gates.enter(&busy, limits, Arrival::New).await else { panic!("held") };
        for n in 0..100_000 {
            gates.lock().entry(Uuid::from_u128(n), n as u64);
        }
        let all = gates.lock();
        assert!((MOST / 2..=MOST).contains(&all.entries.len()), "{}", all.entries.len());
        assert!(all.entries.contains_key(&busy.id) && all.entries.contains_key(&Uuid::from_u128(99_999)));
        assert!(!all.entries.contains_key(&Uuid::from_u128(0)), "the one at which nothing happened for longest");
        drop(all);
        assert!(gates.lock().changed.take(usize::MAX).len() <= MOST, "nor is there more to report");
        drop(permit);
    }
}
