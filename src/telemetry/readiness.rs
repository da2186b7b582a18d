//! What this process needs to do its work, and whether it has it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Named checks that components keep up to date; all must hold for the process to be ready.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, Result<(), String>>>>);

impl Readiness {
    /// Nothing is ready until its component says so.
    pub fn new(checks: &[&'static str]) -> Readiness {
        let starting = |check: &&'static str| (*check, Err("starting".to_owned()));
        Readiness(Arc::new(Mutex::new(checks.iter().map(starting).collect())))
    }

    pub fn ready(&self, check: &'static str) {
        self.checks().insert(check, Ok(()));
    }

    /// The reason is shown to whoever asks, so it must hold no secret.
    pub fn not_ready(&self, check: &'static str, reason: impl Into<String>) {
        self.checks().insert(check, Err(reason.into()));
    }

    /// Every check, and whether it holds.
    pub fn all(&self) -> Vec<(&'static str, bool)> {
        self.checks().iter().map(|(check, state)| (*check, state.is_ok())).collect()
    }

    /// What is not ready, with the reasons.
    pub fn missing(&self) -> BTreeMap<&'static str, String> {
        let checks = self.checks();
        checks.iter().filter_map(|(check, state)| Some((*check, state.as_ref().err()?.clone()))).collect()
    }

    fn checks(&self) -> MutexGuard<'_, BTreeMap<&'static str, Result<(), String>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_ready_when_every_check_holds() {
        let readiness = Readiness::new(&["database", "broker"]);
        assert_eq!(readiness.missing().len(), 2);
        readiness.ready("database");
        readiness.not_ready("broker", "connection refused");
        assert_eq!(readiness.missing(), BTreeMap::from([("broker", "connection refused".to_owned())]));
        let shared = readiness.clone();
        shared.ready("broker");
        assert!(readiness.missing().is_empty());
        shared.not_ready("process", "stopping");
        assert_eq!(readiness.missing().len(), 1);
    }
}
