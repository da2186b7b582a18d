//! The customers' side: many endpoints, each of which behaves as it is told and remembers what came when.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use uuid::Uuid;

use crate::http;
use crate::in_flight::{InFlight, Open};

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
    /// Nothing until the manner changes, then 500 to all that wait.
    FailTogether,
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
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, site.clone()));
        }
    });
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
        let manner = *self.manner.borrow();
        let accepted = matches!(manner, Manner::Accept(_));
        self.arrivals().push(Arrival { id, at, accepted });
        self.acceptances.fetch_add(accepted.into(), Ordering::Relaxed);
        manner
    }
}

async fn converse(mut stream: TcpStream, site: Arc<Site>) {
    let mut buffer = Vec::new();
    // An answer is one small write, and must not wait for the next one.
    let _ = stream.set_nodelay(true);
    while let Some(id) = http::next(&mut stream, &mut buffer).await {
        let at = Instant::now();
        let open = site.in_flight.begin();
        let manner = site.take(id, at);
        if answer(&mut stream, &site, manner, open).await.is_err() {
            return;
        }
    }
}

/// The request counts as open until the answer begins to leave, never for longer: the sender may use its place at once.
async fn answer(stream: &mut TcpStream, site: &Site, manner: Manner, open: Open<'_>) -> std::io::Result<()> {
    match manner {
        Manner::Accept(0) => {}
        // The customer's own work.
        Manner::Accept(work_ms) => tokio::time::sleep(Duration::from_millis(work_ms)).await,
        Manner::Refuse(status) => {
            drop(open);
            return stream.write_all(&refusal(status)).await;
        }
        Manner::Hang => return until_given_up(stream, site, manner).await,
        Manner::Reset => {
            stream.set_zero_linger()?;
            return Err(std::io::ErrorKind::ConnectionReset.into());
        }
        Manner::Drip => return drip(stream, site, manner).await,
        Manner::FailTogether => {
            changed(site, manner).await;
            drop(open);
            return stream.write_all(&refusal(500)).await;
        }
    }
    drop(open);
    stream.write_all(OK).await
}

fn refusal(status: u16) -> Vec<u8> {
    format!("HTTP/1.1 {status} No\r\ncontent-length: 0\r\n\r\n").into_bytes()
}

async fn changed(site: &Site, manner: Manner) {
    let mut manners = site.manner.subscribe();
    let _ = manners.wait_for(|now| *now != manner).await;
}

/// By the sender, or by us at the end of the measurement.
async fn until_given_up(stream: &mut TcpStream, site: &Site, manner: Manner) -> std::io::Result<()> {
    let mut nothing = [0; 64];
    tokio::select! {
        _ = stream.read(&mut nothing) => {}
        () = changed(site, manner) => {}
    }
    Err(std::io::ErrorKind::ConnectionAborted.into())
}

async fn drip(stream: &mut TcpStream, site: &Site, manner: Manner) -> std::io::Result<()> {
    for byte in OK.iter().cycle() {
        stream.write_all(&[*byte]).await?;
        tokio::select! {
            // As slowly as it is meant to be.
            () = tokio::time::sleep(DRIP) => {}
            () = changed(site, manner) => break,
        }
    }
    Err(std::io::ErrorKind::ConnectionAborted.into())
}
