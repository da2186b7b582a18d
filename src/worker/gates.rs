//! The gates of all endpoints that this worker is busy with, waiting at them, and what it has seen of the endpoints.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use super::activity::Seen;
use crate::domain::circuit::{Circuit, Health, Rules, Turn, Window};
use crate::domain::gate::{Answer, Arrival, Gate, Limits, Ticket, Why};
use crate::store::activity::Report;

/// Whoever waits asks again this often, even if no request finishes.
const ASK_AGAIN: Duration = Duration::from_millis(100);

#[derive(Clone)]
pub struct Gates {
    start: Instant,
    all: Arc<Mutex<HashMap<Uuid, Entry>>>,
}

#[derive(Default)]
struct Entry {
    gate: Gate,
    window: Window,
    seen: Seen,
    finished: Arc<Notify>,
}

/// Leave to make one request. Dropping it tells the gate that the request is over.
pub struct Leave {
    gates: Gates,
    endpoint: Uuid,
    ticket: Ticket,
}

/// What the outcome of a request says about its endpoint.
pub struct Verdict {
    pub health: Health,
    /// It asked to slow down, for a time or for none in particular.
    pub slow_down: Option<Option<Duration>>,
    pub error: Option<String>,
}

/// What follows for the endpoint.
pub struct Judgement {
    pub turn: Option<Turn>,
    pub keeps_failing: bool,
}

pub enum Entrance {
    Granted(Leave),
    Held { delay_ms: u64, why: Why },
}

impl Default for Gates {
    fn default() -> Gates {
        Gates { start: Instant::now(), all: Arc::default() }
    }
}

impl Gates {
    /// Waits at the endpoint's gate, for as long as the gate finds that reasonable.
    pub async fn enter(&self, endpoint: Uuid, limits: Limits, arrival: Arrival) -> Entrance {
        let began = Instant::now();
        let (mut answer, finished) = self.first(endpoint, limits, arrival);
        loop {
            match answer {
                Answer::Send { ticket, pause_ms } => {
                    let leave = Leave { gates: self.clone(), endpoint, ticket };
                    if pause_ms > 0 {
                        tokio::time::sleep(Duration::from_millis(pause_ms)).await;
                    }
                    return Entrance::Granted(leave);
                }
                Answer::Hold { delay_ms, why } => return Entrance::Held { delay_ms, why },
                Answer::Wait => {
                    let mut place = Place { gates: self, endpoint, left: false };
                    let _ = tokio::time::timeout(ASK_AGAIN, finished.notified()).await;
                    place.left = true;
                    let (now, waited) = (self.now_ms(), began.elapsed().as_millis() as u64);
                    answer = self.lock().entry(endpoint).or_default().gate.ask_again(limits, arrival, now, waited);
                }
            }
        }
    }

    fn first(&self, endpoint: Uuid, limits: Limits, arrival: Arrival) -> (Answer, Arc<Notify>) {
        let now = self.now_ms();
        let mut all = self.lock();
        let entry = all.entry(endpoint).or_default();
        (entry.gate.ask(limits, arrival, now), entry.finished.clone())
    }

    fn leave(&self, endpoint: Uuid, ticket: Ticket) {
        let now = self.now_ms();
        let mut all = self.lock();
        let Some(entry) = all.get_mut(&endpoint) else { return };
        entry.gate.finished(ticket, now);
        entry.finished.notify_one();
    }

    /// Forgets gates without traffic; what they remember is worth little by then.
    pub fn forget_idle(&self) {
        let now = self.now_ms();
        self.lock().retain(|_, e| !(e.gate.is_idle(now) && e.window.is_empty() && e.seen.is_over(now)));
    }

    /// What has changed since the last report.
    pub fn reports(&self, most: usize) -> Vec<Report> {
        let now = self.now_ms();
        let mut all = self.lock();
        let changed = all.iter_mut().filter_map(|(id, entry)| entry.seen.report(*id, entry.gate.in_flight(), now));
        changed.take(most).collect()
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Leave {
    /// Folds the outcome into what this worker knows of the endpoint.
    pub fn judge(&self, verdict: Verdict, circuit: Circuit, rules: &Rules) -> Judgement {
        let now = self.gates.now_ms();
        let mut all = self.gates.lock();
        let entry = all.entry(self.endpoint).or_default();
        if let Some(asked) = verdict.slow_down {
            entry.gate.slow_down(self.ticket, asked, now);
        }
        entry.seen.attempt(verdict.health, verdict.error, now);
        let keeps_failing = entry.window.keeps_failing(circuit, rules);
        Judgement { turn: entry.window.fold(verdict.health, circuit, rules, now), keeps_failing }
    }
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.gates.leave(self.endpoint, self.ticket);
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
            && let Some(entry) = self.gates.lock().get_mut(&self.endpoint)
        {
            entry.gate.stop_waiting();
        }
    }
}
