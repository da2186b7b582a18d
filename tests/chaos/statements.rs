//! The prepared statements of a process's sessions, as the network shows them: PostgreSQL tells only the session itself.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::chaos::ledger::fingerprint;

/// The sessions of one process.
#[derive(Debug, Clone, Default)]
pub struct Sessions(Arc<Mutex<All>>);

#[derive(Debug, Default)]
struct All {
    open: Vec<Weak<Mutex<Session>>>,
    /// Fingerprints of the texts of all statements that were ever executed under a name.
    texts: HashSet<u64>,
}

/// What a client says. It counts until it is dropped.
#[derive(Debug)]
pub struct Listener {
    session: Arc<Mutex<Session>>,
    all: Sessions,
}

#[derive(Debug, Default)]
struct Session {
    /// What was prepared under a name and not executed yet; what cannot be prepared never is.
    prepared: HashMap<Vec<u8>, u64>,
    /// What was executed, and not closed since.
    kept: HashSet<Vec<u8>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sessions {
    pub fn listen(&self) -> Listener {
        let session = Arc::default();
        let mut all = lock(&self.0);
        all.open.retain(|session| session.strong_count() > 0);
        all.open.push(Arc::downgrade(&session));
        Listener { session, all: self.clone() }
    }

    /// The statements of the session that has the most.
    pub fn most_statements(&self) -> usize {
        let all = lock(&self.0);
        all.open.iter().filter_map(Weak::upgrade).map(|session| lock(&session).kept.len()).max().unwrap_or(0)
    }

    /// Different texts among the statements of all sessions there ever were.
    pub fn texts(&self) -> usize {
        lock(&self.0).texts.len()
    }
}

impl Listener {
    /// A message of the client, by its kind.
    pub fn heard(&self, kind: Option<u8>, body: &[u8]) {
        if let Some(text) = lock(&self.session).heard(kind, body) {
            lock(&self.all.0).texts.insert(text);
        }
    }
}

impl Session {
    /// The fingerprint of a text that is executed for the first time.
    fn heard(&mut self, kind: Option<u8>, body: &[u8]) -> Option<u64> {
        let mut words = body.split(|byte| *byte == 0);
        match kind? {
            b'P' => {
                if let (Some(name @ [_, ..]), Some(text)) = (words.next(), words.next()) {
                    self.prepared.insert(name.to_vec(), fingerprint(text));
                }
            }
            // The name of the portal comes first.
            b'B' => return words.nth(1).and_then(|name| self.executed(name)),
            b'C' => {
                if let Some(name) = body.strip_prefix(b"S").and_then(|name| name.strip_suffix(b"\0")) {
                    self.kept.remove(name);
                }
            }
            _ => {}
        }
        None
    }

    fn executed(&mut self, name: &[u8]) -> Option<u64> {
        let text = self.prepared.remove(name)?;
        self.kept.insert(name.to_vec());
        Some(text)
    }
}
