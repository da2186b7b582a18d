//! The prepared statements of a process's sessions, as the network shows them: PostgreSQL tells only the session itself.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::ledger::fingerprint;

/// PostgreSQL's number for the message that opens a session. What comes before it asks for TLS or the like.
const OPENS: u32 = 3 << 16;

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
    /// The beginning of a message whose rest is still to come.
    begun: Vec<u8>,
    is_open: bool,
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
    pub fn heard(&self, bytes: &[u8]) {
        let new = lock(&self.session).heard(bytes);
        if !new.is_empty() {
            lock(&self.all.0).texts.extend(new);
        }
    }
}

impl Session {
    /// The fingerprints of texts that were executed for the first time.
    fn heard(&mut self, bytes: &[u8]) -> Vec<u64> {
        let mut heard = std::mem::take(&mut self.begun);
        heard.extend_from_slice(bytes);
        let (mut read, mut new) = (0, Vec::new());
        while let Some(length) = self.message(&heard[read..], &mut new) {
            read += length;
        }
        heard.drain(..read);
        self.begun = heard;
        new
    }

    /// Takes in the message that these bytes begin with: a type, which the messages that open a session do not have, a length
    /// that counts itself, and the body. Returns the length of all that, once all of it is there.
    fn message(&mut self, bytes: &[u8], new: &mut Vec<u64>) -> Option<usize> {
        let start = usize::from(self.is_open);
        let length = u32::from_be_bytes(bytes.get(start..start + 4)?.try_into().ok()?) as usize;
        let body = bytes.get(start + 4..start + length)?;
        let mut words = body.split(|byte| *byte == 0);
        match bytes[0] {
            _ if !self.is_open => self.is_open = body.get(..4) == Some(&OPENS.to_be_bytes()[..]),
            b'P' => {
                if let (Some(name @ [_, ..]), Some(text)) = (words.next(), words.next()) {
                    self.prepared.insert(name.to_vec(), fingerprint(text));
                }
            }
            // The name of the portal comes first.
            b'B' => new.extend(words.nth(1).and_then(|name| self.executed(name))),
            b'C' => {
                if let Some(name) = body.strip_prefix(b"S").and_then(|name| name.strip_suffix(b"\0")) {
                    self.kept.remove(name);
                }
            }
            _ => {}
        }
        Some(start + length)
    }

    fn executed(&mut self, name: &[u8]) -> Option<u64> {
        let text = self.prepared.remove(name)?;
        self.kept.insert(name.to_vec());
        Some(text)
    }
}
