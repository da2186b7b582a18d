//! The customers' side: many endpoints, each of which behaves as it is told and remembers what came when.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::net::TcpSocket;
use tokio::sync::watch;
use uuid::Uuid;

use crate::isolation::in_flight::{InFlight, Open};
use crate::kit::connections::accept;
use crate::kit::http::{Answer, Connection};

/// More than ever wait to be accepted.
const BACKLOG: u32 = 4096;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
const DRIP: Duration = Duration::from_secs(1);

/// How an endpoint answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// 200, after so many milliseconds.
    Accept(u64),
    /// This status, at once.
    Refuse(u16),
    Hang,
    Reset,
    /// One byte of the answer a second.
    Drip,
    /// 500 to the first request for an event, 200 to those after it.
    FailOnce,
}

#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    pub id: Uuid,
    /// When the request had been read.
    pub at: Instant,
    pub accepted: bool,
}

/// One endpoint of ours, at an address of its own, as those of other customers have: no two share connections.
pub struct Site {
    address: SocketAddr,
    manner: watch::Sender<Manner>,
    arrivals: Mutex<Vec<Arrival>>,
    /// Events that have failed once, where each has to.
    failed: Mutex<HashSet<Uuid>>,
    acceptances: AtomicUsize,
    pub in_flight: InFlight,
}

/// Bound and not listening: whoever connects is refused.
type Waiting = Vec<(TcpSocket, Arc<Site>)>;

pub struct Receiver {
    /// `None`: it listens.
    waiting: Mutex<Option<Waiting>>,
}

impl Receiver {
    /// Does not listen yet.
    pub fn new() -> Receiver {
        Receiver { waiting: Mutex::new(Some(Vec::new())) }
    }

    pub fn listen(&self) -> std::io::Result<()> {
        let waiting = self.waiting().take().unwrap_or_default();
        waiting.into_iter().try_for_each(|(socket, site)| serve(socket, site))
    }

    pub fn add(&self, manner: Manner) -> std::io::Result<Arc<Site>> {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let site = Arc::new(Site {
            address: socket.local_addr()?,
            manner: watch::Sender::new(manner),
            arrivals: Mutex::default(),
            failed: Mutex::default(),
            acceptances: AtomicUsize::new(0),
            in_flight: InFlight::default(),
        });
        match self.waiting().as_mut() {
            Some(waiting) => waiting.push((socket, site.clone())),
            None => serve(socket, site.clone())?,
        }
        Ok(site)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn serve(socket: TcpSocket, site: Arc<Site>) -> std::io::Result<()> {
    let listener = socket.listen(BACKLOG)?;
    tokio::spawn(accept(listener, move |stream| converse(Connection::new(stream), site.clone())));
    Ok(())
}

impl Site {
    pub fn url(&self) -> String {
        format!("http://{}/0", self.address)
    }

    pub fn behave(&self, manner: Manner) {
        self.manner.send_replace(manner);
    }

    pub fn arrivals(&self) -> MutexGuard<'_, Vec<Arrival>> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn requests(&self) -> usize {
        self.arrivals().len()
    }

    /// Room for so many arrivals, so that none waits until the ones before have been moved.
    pub fn expect(&self, arrivals: usize) {
        self.arrivals().reserve(arrivals);
    }

    /// Requests, answered well or not, that began within this time.
    pub fn requests_between(&self, from: Instant, until: Instant) -> usize {
        self.arrivals().iter().filter(|arrival| (from..until).contains(&arrival.at)).count()
    }

    /// How many were accepted, those that came again included.
    pub fn acceptances(&self) -> usize {
        self.acceptances.load(Ordering::Relaxed)
    }

    /// When each event was accepted first.
    pub fn accepted(&self) -> HashMap<Uuid, Instant> {
        let mut first = HashMap::new();
        for arrival in self.arrivals().iter().filter(|arrival| arrival.accepted) {
            first.entry(arrival.id).or_insert(arrival.at);
        }
        first
    }

    /// Whether so many different events were accepted. They are compared only when there are enough: that keeps requests
    /// waiting, which others would be measured by.
    pub fn has_accepted(&self, events: usize) -> bool {
        self.acceptances.load(Ordering::Relaxed) >= events && self.accepted().len() >= events
    }

    pub fn open(&self) -> usize {
        self.in_flight.open()
    }

    fn take(&self, id: Uuid, at: Instant) -> Manner {
        let manner = match *self.manner.borrow() {
            Manner::FailOnce if self.fails_first(id) => Manner::Refuse(500),
            Manner::FailOnce => Manner::Accept(0),
            manner => manner,
        };
        let accepted = matches!(manner, Manner::Accept(_));
        self.arrivals().push(Arrival { id, at, accepted });
        self.acceptances.fetch_add(accepted.into(), Ordering::Relaxed);
        manner
    }

    /// An event that comes again may go.
    fn fails_first(&self, id: Uuid) -> bool {
        let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        !failed.remove(&id) && failed.insert(id)
    }

    async fn changed(&self, manner: Manner) {
        let _ = self.manner.subscribe().wait_for(|now| *now != manner).await;
    }

    /// Until the sender has had enough, or we have, at the end of the measurement.
    async fn while_so(
        &self,
        manner: Manner,
        answered: impl Future<Output = std::io::Result<()>>,
    ) -> std::io::Result<()> {
        tokio::select! {
            answered = answered => answered,
            () = self.changed(manner) => Err(std::io::ErrorKind::ConnectionAborted.into()),
        }
    }
}

async fn converse(mut connection: Connection, site: Arc<Site>) {
    while let Some(request) = connection.next().await {
        let Ok(id) = Uuid::try_parse(request.header("webhook-id")) else { return };
        let at = Instant::now();
        let open = site.in_flight.begin();
        let manner = site.take(id, at);
        if answer(&mut connection, &site, manner, open).await.is_err() {
            return;
        }
    }
}

/// The request counts as open until the answer begins to leave, never for longer: the sender may use its place at once.
async fn answer(connection: &mut Connection, site: &Site, manner: Manner, open: Open<'_>) -> std::io::Result<()> {
    let answer = match manner {
        Manner::Accept(work_ms) => {
            if work_ms > 0 {
                // The customer's own work.
                tokio::time::sleep(Duration::from_millis(work_ms)).await;
            }
            Answer::Whole(OK.into())
        }
        Manner::Refuse(status) => refusal(status),
        // Taken as one of the others before.
        Manner::FailOnce => refusal(500),
        Manner::Hang => return site.while_so(manner, connection.answer(Answer::Hang)).await,
        Manner::Drip => return site.while_so(manner, connection.answer(Answer::Drip(b"".into(), OK, DRIP))).await,
        Manner::Reset => return connection.answer(Answer::Reset).await,
    };
    drop(open);
    connection.answer(answer).await
}

fn refusal(status: u16) -> Answer {
    Answer::Whole(format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n").into_bytes().into())
}
