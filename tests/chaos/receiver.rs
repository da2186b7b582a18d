//! The customer's side: records every request, verifies its signature with a library that is not ours, and fails when told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use uuid::Uuid;

use crate::chaos::ledger::{Clock, fingerprint};
use crate::chaos::schedule::ENDPOINTS;
use crate::kit::connections::accept;
use crate::kit::http::{Answer, Connection, Request};

/// So much later than meant, an answer may come after the sender's time-out.
const LATE: Duration = Duration::from_secs(1);

/// How an endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Manner {
    Accept,
    Fail,
    /// Fails for one event in five, whenever it is asked to take it: too few for a circuit to open.
    FailSome,
    Hang,
    Reset,
}

impl Manner {
    const ALL: [Manner; 5] = [Manner::Accept, Manner::Fail, Manner::FailSome, Manner::Hang, Manner::Reset];

    /// Towards one event. Ids end with random bits.
    fn towards(self, id: Option<Uuid>) -> Manner {
        match self {
            Manner::FailSome if id.is_some_and(|id| id.as_u128() % 5 == 0) => Manner::Fail,
            Manner::FailSome => Manner::Accept,
            manner => manner,
        }
    }

    fn answer(self) -> Answer {
        let whole = |text: &'static [u8]| Answer::Whole(text.into());
        match self {
            Manner::Accept => whole(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
            Manner::Fail | Manner::FailSome => whole(b"HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n"),
            Manner::Hang => Answer::Hang,
            Manner::Reset => Answer::Reset,
        }
    }
}

/// What came for one event at one endpoint.
#[derive(Debug, Clone, Copy)]
pub struct Record {
    /// When it was accepted first.
    pub first: Option<f64>,
    /// The number of the attempt that was accepted first.
    pub attempt: u32,
    /// Answered with 200, or about to be when the sender died.
    pub accepted: u32,
    /// Failed on purpose.
    pub refused: u32,
    /// Answered so late that the sender may have given up.
    pub excused: u32,
    pub fingerprint: u64,
    /// Two requests with different bodies.
    pub differs: bool,
}

/// An event that was accepted again.
#[derive(Debug, Clone, Copy)]
pub struct Duplicate {
    pub id: Uuid,
    pub endpoint: usize,
    /// When it was accepted first.
    pub before: f64,
    pub at: f64,
    /// The number of the attempt at the first time, and at this one.
    pub attempts: (u32, u32),
}

#[derive(Default)]
pub struct Notes {
    pub records: HashMap<(Uuid, usize), Record>,
    pub duplicates: Vec<Duplicate>,
    /// What is wrong with a request: its signature, its id.
    pub bad: Vec<String>,
    pub requests: u64,
    treated: [[u64; Manner::ALL.len()]; ENDPOINTS],
    /// Requests whose answer came so late that the sender may have given up, because this program had to wait.
    pub late_answers: u64,
}

pub struct Receiver {
    pub port: u16,
    clock: Clock,
    manners: [AtomicU8; ENDPOINTS],
    /// The newest one first.
    secrets: [RwLock<Vec<Webhook>>; ENDPOINTS],
    notes: Mutex<Notes>,
    /// The time in the id of the newest event that each endpoint has accepted, in Unix milliseconds.
    newest_ms: [AtomicU64; ENDPOINTS],
    open: AtomicUsize,
    /// How long an answer takes, at least and at most, in milliseconds.
    work_ms: Mutex<(u64, u64)>,
}

impl Receiver {
    pub async fn start(clock: Clock, work_ms: (u64, u64)) -> std::io::Result<Arc<Receiver>> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let receiver = Arc::new(Receiver {
            port: listener.local_addr()?.port(),
            clock,
            manners: Default::default(),
            secrets: Default::default(),
            notes: Mutex::default(),
            newest_ms: Default::default(),
            open: AtomicUsize::new(0),
            work_ms: Mutex::new(work_ms),
        });
        let serving = receiver.clone();
        let converse = move |stream| converse(Connection::new(stream), serving.clone());
        tokio::spawn(accept(listener, converse));
        Ok(receiver)
    }

    pub fn url(&self, endpoint: usize) -> String {
        format!("http://127.0.0.1:{}/{endpoint}", self.port)
    }

    /// From now on with this secret, or with the one before it: what was signed before the change is still on its way.
    pub fn verify_with(&self, endpoint: usize, secret: &str) {
        let webhook = Webhook::new(secret).expect("a secret of the standard form");
        let mut secrets = self.secrets[endpoint].write().unwrap_or_else(PoisonError::into_inner);
        secrets.insert(0, webhook);
        secrets.truncate(2);
    }

    fn verify(&self, endpoint: usize, request: &Request<'_>) -> Result<(), String> {
        let secrets = self.secrets[endpoint].read().unwrap_or_else(PoisonError::into_inner);
        let mut verified = Err("it came before its secret".to_owned());
        let headers = signed_headers(request)?;
        for webhook in secrets.iter() {
            verified = webhook.verify(request.body, &headers).map_err(|error| error.to_string());
            if verified.is_ok() {
                break;
            }
        }
        verified
    }

    pub fn behave(&self, endpoint: usize, manner: Manner) {
        self.manners[endpoint].store(manner as u8, Ordering::Relaxed);
    }

    pub fn notes(&self) -> MutexGuard<'_, Notes> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn newest_ms(&self, endpoint: usize) -> u64 {
        self.newest_ms[endpoint].load(Ordering::Relaxed)
    }

    /// Requests that were treated so by an endpoint, since the start of the run.
    pub fn treated(&self, endpoint: usize, manner: Manner) -> u64 {
        self.notes().treated[endpoint][manner as usize]
    }

    /// Requests that are being answered at this moment.
    pub fn in_flight(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// What is noted of a request, and how it is answered.
    fn take(&self, endpoint: usize, request: &Request<'_>) -> (Option<Uuid>, Manner) {
        let verified = self.verify(endpoint, request);
        let id = request.header("webhook-id").parse().ok();
        let manner = Manner::ALL[usize::from(self.manners[endpoint].load(Ordering::Relaxed))].towards(id);
        let mut notes = self.notes();
        notes.requests += 1;
        notes.treated[endpoint][manner as usize] += 1;
        if let Err(error) = &verified {
            notes.bad.push(format!("{id:?}: {error}"));
        }
        match id {
            Some(id) => notes.note((id, endpoint), request, manner, self.clock.now()),
            None => notes.bad.push("no webhook-id".to_owned()),
        }
        drop(notes);
        if let (Some(id), Manner::Accept) = (id, manner) {
            self.newest_ms[endpoint].fetch_max(millisecond(id), Ordering::Relaxed);
        }
        (id, manner)
    }

    fn work(&self) -> Duration {
        let (least, most) = *self.work_ms.lock().unwrap_or_else(PoisonError::into_inner);
        Duration::from_millis(rand::random_range(least..=most))
    }

    /// From now on an answer takes so long.
    pub fn take_time(&self, work_ms: (u64, u64)) {
        *self.work_ms.lock().unwrap_or_else(PoisonError::into_inner) = work_ms;
    }
}

impl Notes {
    pub fn has_accepted(&self, id: Uuid, endpoint: usize) -> bool {
        self.records.get(&(id, endpoint)).is_some_and(|record| record.accepted > 0)
    }

    /// An attempt that fails now failed by our slowness.
    fn excuse(&mut self, id: Option<Uuid>, endpoint: usize) {
        self.late_answers += 1;
        let record = id.and_then(|id| self.records.get_mut(&(id, endpoint)));
        record.into_iter().for_each(|record| record.excused += 1);
    }

    fn note(&mut self, key: (Uuid, usize), request: &Request<'_>, manner: Manner, at: f64) {
        let fingerprint = fingerprint(request.body);
        let attempt = request.header("posthaste-attempt").parse().unwrap_or_default();
        let new = Record { first: None, attempt, accepted: 0, refused: 0, excused: 0, fingerprint, differs: false };
        let record = self.records.entry(key).or_insert(new);
        record.differs |= record.fingerprint != fingerprint;
        if manner != Manner::Accept {
            record.refused += 1;
            return;
        }
        record.accepted += 1;
        match record.first {
            None => (record.first, record.attempt) = (Some(at), attempt),
            Some(before) => {
                let attempts = (record.attempt, attempt);
                self.duplicates.push(Duplicate { id: key.0, endpoint: key.1, before, at, attempts });
            }
        }
    }
}

/// A version 7 id begins with its time.
pub fn millisecond(id: Uuid) -> u64 {
    (id.as_u128() >> 80) as u64
}

/// In the form that the other library takes.
fn signed_headers(request: &Request<'_>) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
        let value = HeaderValue::from_str(request.header(name)).map_err(|error| error.to_string())?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}

async fn converse(mut connection: Connection, receiver: Arc<Receiver>) {
    while let Some(request) = connection.next().await {
        // The path is a number: `/3`.
        let endpoint =
            request.path().trim_start_matches('/').parse::<usize>().ok().filter(|endpoint| *endpoint < ENDPOINTS);
        let Some(endpoint) = endpoint else { return };
        let came = Instant::now();
        let (id, manner) = receiver.take(endpoint, &request);
        receiver.open.fetch_add(1, Ordering::Relaxed);
        let work = receiver.work();
        // The customer's own work.
        tokio::time::sleep(work).await;
        let answered = connection.answer(manner.answer()).await;
        receiver.open.fetch_sub(1, Ordering::Relaxed);
        if manner == Manner::Accept && came.elapsed() > work + LATE {
            receiver.notes().excuse(id, endpoint);
        }
        if answered.is_err() {
            return;
        }
    }
}
