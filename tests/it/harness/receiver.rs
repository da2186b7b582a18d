//! A receiver that answers as a test says and keeps every request as it came.

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::net::TcpListener;
use tokio::sync::watch;

use super::{PATIENCE, in_a_thread};
use crate::kit::connections::{accept, listener};
use crate::kit::http::{self, Answer, Connection};

/// The slowness of an answer that drips.
const DRIP: Duration = Duration::from_millis(20);

/// One request as it came.
#[derive(Debug, Clone)]
pub struct Request {
    pub path: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub at: Instant,
    pub time: SystemTime,
}

impl Request {
    fn of(request: &http::Request<'_>) -> Request {
        let pair = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned()));
        Request {
            path: request.path().to_owned(),
            headers: request.head.lines().skip(1).filter_map(pair).collect(),
            body: request.body.to_vec(),
            at: Instant::now(),
            time: SystemTime::now(),
        }
    }

    /// The value of a header; empty when it is absent.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map_or("", |(_, value)| value)
    }

    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }
}

/// What a request is answered with.
#[derive(Clone)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: &'static str,
    delay: Duration,
    door: Option<Door>,
    manner: Manner,
}

#[derive(Clone, Copy, PartialEq)]
enum Manner {
    Whole,
    /// No answer ever.
    Hang,
    /// The connection is reset instead of an answer.
    Reset,
    /// The head at once, then a byte of the body now and then, without an end.
    Drip,
}

impl Reply {
    pub fn status(status: u16) -> Reply {
        Reply { status, headers: Vec::new(), body: "", delay: Duration::ZERO, door: None, manner: Manner::Whole }
    }

    pub fn ok() -> Reply {
        Reply::status(200)
    }

    pub fn hang() -> Reply {
        Reply { manner: Manner::Hang, ..Reply::ok() }
    }

    pub fn reset() -> Reply {
        Reply { manner: Manner::Reset, ..Reply::ok() }
    }

    pub fn drip() -> Reply {
        Reply { manner: Manner::Drip, ..Reply::ok() }
    }

    pub fn header(mut self, name: &'static str, value: impl ToString) -> Reply {
        self.headers.push((name, value.to_string()));
        self
    }

    pub fn body(self, body: &'static str) -> Reply {
        Reply { body, ..self }
    }

    pub fn after(self, delay: Duration) -> Reply {
        Reply { delay, ..self }
    }

    /// Answers only once the door is open.
    pub fn behind(self, door: &Door) -> Reply {
        Reply { door: Some(door.clone()), ..self }
    }

    fn answer(&self) -> Answer {
        match self.manner {
            Manner::Whole => Answer::Whole(self.text(self.body.len(), self.body)),
            Manner::Hang => Answer::Hang,
            Manner::Reset => Answer::Reset,
            Manner::Drip => Answer::Drip(self.text(1_000_000, ""), b".", DRIP),
        }
    }

    fn text(&self, length: usize, body: &str) -> Cow<'static, [u8]> {
        let headers: String = self.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = format!("HTTP/1.1 {} Scripted\r\ncontent-length: {length}\r\n{headers}\r\n", self.status);
        Cow::Owned((head + body).into_bytes())
    }
}

/// Closed until it is opened, for good.
#[derive(Clone)]
pub struct Door(Arc<watch::Sender<bool>>);

impl Door {
    pub fn closed() -> Door {
        Door(Arc::new(watch::channel(false).0))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    async fn pass(&self) {
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// The reply to the n-th request (from 1) with the same `webhook-id` on the same path.
type Script = Arc<dyn Fn(usize) -> Reply + Send + Sync>;

/// Runs in a thread of its own, so a test that is busy does not slow it down.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    // The thread ends when this is dropped.
    _stop: watch::Sender<()>,
}

struct Shared {
    scripts: Mutex<HashMap<String, Script>>,
    seen: Mutex<HashMap<(String, String), usize>>,
    requests: watch::Sender<Vec<Request>>,
}

impl Receiver {
    /// Answers 200 on every path that has no script.
    pub fn start() -> Receiver {
        let listener = listener();
        let address = listener.local_addr().expect("an address");
        let requests = watch::channel(Vec::new()).0;
        let shared = Arc::new(Shared { scripts: Mutex::default(), seen: Mutex::default(), requests });
        let (stop, stopped) = watch::channel(());
        let serving = shared.clone();
        in_a_thread(serve(listener, serving, stopped));
        Receiver { address, shared, _stop: stop }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// From now on the path answers like this. The argument counts the requests with the same `webhook-id`, from 1.
    pub fn at(&self, path: &str, script: impl Fn(usize) -> Reply + Send + Sync + 'static) {
        self.shared.scripts.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), Arc::new(script));
    }

    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.borrow().clone()
    }

    pub fn requests_to(&self, path: &str) -> Vec<Request> {
        self.requests().into_iter().filter(|request| request.path == path).collect()
    }

    pub fn count(&self) -> usize {
        self.shared.requests.borrow().len()
    }

    /// How often each `webhook-id` came.
    pub fn counts(&self) -> HashMap<String, usize> {
        let mut counts = HashMap::new();
        for request in self.shared.requests.borrow().iter() {
            *counts.entry(request.id().to_owned()).or_default() += 1;
        }
        counts
    }

    /// Waits for at least this many requests on all paths, and returns all there are.
    pub async fn wait_for(&self, count: usize) -> Vec<Request> {
        self.wait_until(&format!("{count} requests"), |requests| requests.len() >= count).await
    }

    pub async fn wait_until(&self, what: &str, enough: impl Fn(&[Request]) -> bool) -> Vec<Request> {
        let mut requests = self.shared.requests.subscribe();
        let waiting = requests.wait_for(|requests| enough(requests));
        match tokio::time::timeout(PATIENCE, waiting).await {
            Ok(Ok(requests)) => requests.clone(),
            _ => panic!("the receiver gave up waiting for {what}; it has {} requests", self.count()),
        }
    }
}

async fn serve(listener: std::net::TcpListener, shared: Arc<Shared>, mut stopped: watch::Receiver<()>) {
    let listener = TcpListener::from_std(listener).expect("a listener");
    tokio::select! {
        () = accept(listener, |stream| converse(Connection::new(stream), shared.clone())) => {}
        // An error: the receiver was dropped.
        _ = stopped.changed() => {}
    }
}

/// One connection: requests and replies in turn, until one of the two sides has had enough.
async fn converse(mut connection: Connection, shared: Arc<Shared>) {
    while let Some(request) = connection.next().await {
        let reply = shared.note(Request::of(&request));
        if let Some(door) = &reply.door {
            door.pass().await;
        }
        // The delay is what the test asked for.
        tokio::time::sleep(reply.delay).await;
        if connection.answer(reply.answer()).await.is_err() {
            return;
        }
    }
}

impl Shared {
    fn note(&self, request: Request) -> Reply {
        let script = self.scripts.lock().unwrap_or_else(PoisonError::into_inner).get(&request.path).cloned();
        let nth = {
            let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let nth = seen.entry((request.path.clone(), request.id().to_owned())).or_default();
            *nth += 1;
            *nth
        };
        self.requests.send_modify(|requests| requests.push(request));
        script.map_or_else(Reply::ok, |script| script(nth))
    }
}
