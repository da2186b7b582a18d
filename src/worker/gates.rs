//! The gates of all endpoints that this worker is busy with, and waiting at them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use uuid::Uuid;

use crate::domain::gate::{Answer, Gate, Limits, Ticket};

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
    finished: Arc<Notify>,
}

/// Leave to make one request. Dropping it tells the gate that the request is over.
pub struct Leave {
    gates: Gates,
    endpoint: Uuid,
    ticket: Ticket,
}

pub enum Entrance {
    Granted(Leave),
    Held { delay_ms: u64 },
}

impl Default for Gates {
    fn default() -> Gates {
        Gates { start: Instant::now(), all: Arc::default() }
    }
}

impl Gates {
    /// Waits at the endpoint's gate, for as long as the gate finds that reasonable.
    pub async fn enter(&self, endpoint: Uuid, limits: Limits) -> Entrance {
        let began = Instant::now();
        let (mut answer, finished) = self.first(endpoint, limits);
        loop {
            match answer {
                Answer::Send(ticket) => {
                    return Entrance::Granted(Leave { gates: self.clone(), endpoint, ticket });
                }
                Answer::Hold { delay_ms } => return Entrance::Held { delay_ms },
                Answer::Wait => {
                    let mut place = Place { gates: self, endpoint, left: false };
                    let _ = tokio::time::timeout(ASK_AGAIN, finished.notified()).await;
                    answer = self.again(endpoint, limits, began, &mut place);
                }
            }
        }
    }

    fn first(&self, endpoint: Uuid, limits: Limits) -> (Answer, Arc<Notify>) {
        let now = self.now_ms();
        let mut all = self.lock();
        let entry = all.entry(endpoint).or_default();
        (entry.gate.ask(limits, now), entry.finished.clone())
    }

    fn again(&self, endpoint: Uuid, limits: Limits, began: Instant, place: &mut Place<'_>) -> Answer {
        place.left = true;
        let (now, waited) = (self.now_ms(), began.elapsed().as_millis() as u64);
        self.lock().entry(endpoint).or_default().gate.ask_again(limits, now, waited)
    }

    fn leave(&self, endpoint: Uuid, ticket: Ticket) {
        let now = self.now_ms();
        let mut all = self.lock();
        let Some(entry) = all.get_mut(&endpoint) else { return };
        entry.gate.finished(ticket, now);
        entry.finished.notify_one();
    }

    /// Forgets gates without traffic; their memory of response times is worth little by then.
    pub fn forget_idle(&self) {
        self.lock().retain(|_, entry| !entry.gate.is_idle());
    }

    fn now_ms(&self) -> u64 {
        self.start.elapsed().as_millis() as u64
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Entry>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
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
