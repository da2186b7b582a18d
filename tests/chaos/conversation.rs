//! What a process and PostgreSQL say to each other over one connection, understood as far as it takes to lose the answer to
//! a change that was carried out: which statements change something, and when their answers are complete.

use std::collections::HashMap;

use crate::chaos::statements::Listener;

/// Kept of a message: of what a process asks as much as the longest statement takes, of an answer no more than a few columns.
const KEPT_OF_QUESTIONS: usize = 32 * 1024;
const KEPT_OF_ANSWERS: usize = 256;
/// The codes of the requests that come before a startup message, and that one byte answers: for TLS and for GSSAPI.
const ENCRYPTION: [u32; 2] = [80_877_103, 80_877_104];
/// The column of a claim that says which batch was listed.
const BATCH_OF_CLAIM: usize = 2;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Events are moved out of the outbox.
    Claim,
    /// Attempts are recorded.
    Settlement,
    /// Any other change, or the commit of a transaction.
    Other,
}

/// What becomes of bytes that the server has sent.
#[derive(Debug, PartialEq, Eq)]
pub enum Fate {
    /// They go on to the process.
    Forward,
    /// They are kept back, since they belong to an answer that shall be lost.
    Keep,
    /// Nothing was changed, or not for good: what was kept back goes on.
    Release(Vec<u8>),
    /// The change is carried out and committed, and nobody has heard of it. The connection is to be closed.
    Lost(Change),
}

pub struct Conversation {
    questions: Frames,
    answers: Frames,
    /// By the names of the prepared statements; those that change nothing are not in here.
    prepared: HashMap<Vec<u8>, Change>,
    /// What would be executed next.
    bound: Option<Change>,
    losing: Option<Losing>,
    statements: Listener,
}

/// A change whose answer is being kept back.
struct Losing {
    change: Change,
    kept: Vec<u8>,
    /// It found something to change.
    effective: bool,
    completed: bool,
}

impl Conversation {
    pub fn new(statements: Listener) -> Conversation {
        Conversation {
            questions: Frames::default(),
            // All that a server sends has a kind.
            answers: Frames { typed: true, ..Frames::default() },
            prepared: HashMap::new(),
            bound: None,
            losing: None,
            statements,
        }
    }

    /// Bytes on their way to the server. The answers to the changes that `lose` names are lost.
    pub fn asked(&mut self, bytes: &[u8], lose: impl Fn(Change) -> bool) {
        let Conversation { questions, answers, prepared, bound, losing, statements } = self;
        questions.cut(bytes, KEPT_OF_QUESTIONS, |kind, body| {
            statements.heard(kind, body);
            let asked = match kind {
                // Without a kind: the first message, or a request before it.
                None => {
                    answers.unframed += usize::from(asks_for_encryption(body));
                    return;
                }
                Some(b'P') => {
                    let (name, text) = split(body);
                    match change(split(text).0) {
                        Some(change) => prepared.insert(name.to_vec(), change),
                        None => prepared.remove(name),
                    };
                    return;
                }
                Some(b'B') => {
                    let (_portal, rest) = split(body);
                    *bound = prepared.get(split(rest).0).copied();
                    return;
                }
                Some(b'E') => *bound,
                Some(b'Q') => change(split(body).0),
                Some(_) => None,
            };
            if let Some(change) = asked.filter(|change| losing.is_none() && lose(*change)) {
                *losing = Some(Losing { change, kept: Vec::new(), effective: false, completed: false });
            }
        });
    }

    /// Bytes that the server has sent.
    pub fn answered(&mut self, bytes: &[u8]) -> Fate {
        let Conversation { answers, losing, .. } = self;
        let mut fate = if losing.is_some() { Fate::Keep } else { Fate::Forward };
        answers.cut(bytes, KEPT_OF_ANSWERS, |kind, body| {
            let Some(losing) = losing.as_mut().filter(|_| fate == Fate::Keep) else { return };
            match kind {
                Some(b'D') => losing.effective |= losing.change != Change::Claim || has_column(body, BATCH_OF_CLAIM),
                Some(b'C') => losing.completed |= !body.starts_with(b"ROLLBACK"),
                Some(b'E') => fate = Fate::Release(Vec::new()),
                // Ready for the next question.
                Some(b'Z') if losing.completed => fate = losing.end(body),
                _ => {}
            }
        });
        match &mut fate {
            Fate::Forward | Fate::Lost(_) => {}
            Fate::Keep => losing.iter_mut().for_each(|losing| losing.kept.extend_from_slice(bytes)),
            Fate::Release(kept) => {
                *kept = losing.take().map(|losing| losing.kept).unwrap_or_default();
                kept.extend_from_slice(bytes);
            }
        }
        fate
    }
}

impl Losing {
    /// Outside a transaction, what was completed is committed. A claim or a settlement that found nothing has changed nothing.
    fn end(&self, transaction: &[u8]) -> Fate {
        let changed = self.effective || self.change == Change::Other;
        if transaction == b"I" && changed { Fate::Lost(self.change) } else { Fate::Release(Vec::new()) }
    }
}

/// Cuts a stream of bytes into messages, of which the beginning is kept.
#[derive(Default)]
struct Frames {
    /// Messages have a kind: all but the first of a process.
    typed: bool,
    /// So many bytes come first that are no message.
    unframed: usize,
    head: Vec<u8>,
    body: Vec<u8>,
    /// Bytes of the body that have not come yet.
    missing: usize,
}

impl Frames {
    fn cut(&mut self, mut bytes: &[u8], keep: usize, mut each: impl FnMut(Option<u8>, &[u8])) {
        while !bytes.is_empty() {
            let skipped = self.unframed.min(bytes.len());
            self.unframed -= skipped;
            bytes = &bytes[skipped..];
            let wanted = self.head_length() - self.head.len();
            let (head, rest) = bytes.split_at(wanted.min(bytes.len()));
            self.head.extend_from_slice(head);
            if self.head.len() < self.head_length() {
                return;
            }
            if wanted > 0 {
                // The length counts itself.
                self.missing = (number(&self.head[self.head.len() - 4..]) as usize).saturating_sub(4);
            }
            let (part, rest) = rest.split_at(self.missing.min(rest.len()));
            self.missing -= part.len();
            let room = keep.saturating_sub(self.body.len());
            self.body.extend_from_slice(&part[..room.min(part.len())]);
            bytes = rest;
            if self.missing == 0 {
                self.end(&mut each);
            }
        }
    }

    fn end(&mut self, each: &mut impl FnMut(Option<u8>, &[u8])) {
        each(self.head.first().copied().filter(|_| self.typed), &self.body);
        self.typed |= !asks_for_encryption(&self.body);
        self.head.clear();
        self.body.clear();
    }

    fn head_length(&self) -> usize {
        if self.typed { 5 } else { 4 }
    }
}

fn asks_for_encryption(body: &[u8]) -> bool {
    body.len() == 4 && ENCRYPTION.contains(&number(body))
}

fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

/// A text up to its end, and what comes after it.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    (&bytes[..end], bytes.get(end + 1..).unwrap_or_default())
}

fn change(statement: &[u8]) -> Option<Change> {
    let text = String::from_utf8_lossy(statement);
    let writes = |what: &str| text.contains(&format!("{what} posthaste."));
    if text.contains("delete from posthaste.outbox") {
        Some(Change::Claim)
    } else if text.contains("insert into posthaste.attempts") {
        Some(Change::Settlement)
    } else if text.trim().eq_ignore_ascii_case("commit")
        || ["insert into", "update", "delete from"].into_iter().any(writes)
    {
        Some(Change::Other)
    } else {
        None
    }
}

/// Whether a row has a value in this column. Rows begin with the number of columns; each has its length, or -1 for none.
fn has_column(row: &[u8], column: usize) -> bool {
    let mut rest = row.get(2..).unwrap_or_default();
    for _ in 0..column {
        let length = (number(rest) as i32).max(0) as usize;
        rest = rest.get(4 + length..).unwrap_or_default();
    }
    rest.len() >= 4 && number(rest) as i32 >= 0
}
