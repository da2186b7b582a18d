//! What all connections of one test receiver have in common.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;
use tokio::sync::Notify;

use super::behaviour::Behaviour;
use super::settings::{Recorded, Settings};
use super::stats::Ledger;
use super::verify::Verifier;

pub(super) struct Shared {
    pub settings: Settings,
    /// `None` without secrets.
    pub verifier: Option<Verifier>,
    state: Mutex<State>,
    /// Told whenever a count has changed.
    pub changed: Notify,
}

pub(super) struct State {
    pub ledger: Ledger,
    pub behaviour: Behaviour,
    pub recorded: VecDeque<Recorded>,
}

impl Shared {
    pub fn new(settings: Settings) -> Shared {
        let secrets = settings.secrets.clone();
        let state = State {
            ledger: Ledger::new(settings.max_ids),
            behaviour: settings.behaviour.clone(),
            recorded: VecDeque::new(),
        };
        let verifier = (!secrets.is_empty()).then(|| Verifier::new(secrets));
        Shared { settings, verifier, state: Mutex::new(state), changed: Notify::new() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is counted as failed unless it is answered with 2xx before this is dropped.
pub(super) struct InFlight<'a> {
    shared: &'a Shared,
    id: Option<HeaderValue>,
    pub ok: bool,
}

impl<'a> InFlight<'a> {
    pub fn arrived(shared: &'a Shared, id: Option<HeaderValue>, now: SystemTime) -> InFlight<'a> {
        let now_ms = now.duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as u64);
        shared.state().ledger.arrived(now_ms);
        shared.changed.notify_waiters();
        InFlight { shared, id, ok: false }
    }

    pub fn id(&self) -> Option<&str> {
        self.id.as_ref().and_then(|id| id.to_str().ok())
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.shared.state().ledger.ended(self.id(), self.ok);
        self.shared.changed.notify_waiters();
    }
}
