//! What a server of HTTP/2 may do in the middle of a request, frame by frame.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;

use super::*;
use crate::http::own_tls::OwnTls;
use crate::http::test_certificates::{self, Authority, Tls};
use crate::http::test_server::{Server, client, post_own};

const PREFACE: usize = 24;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const END_STREAM_AND_HEADERS: u8 = 5;
const END_HEADERS: u8 = 4;
/// `:status: 200` in HPACK's static table.
const STATUS_200: u8 = 0x88;

const NO_ERROR: u32 = 0;
const INTERNAL_ERROR: u32 = 2;
const REFUSED_STREAM: u32 = 7;
const CANCEL: u32 = 8;
const ENHANCE_YOUR_CALM: u32 = 11;

/// What the server does when a request has come.
#[derive(Clone, Copy)]
enum Act {
    Answer,
    Reset(u32),
    /// The connection is over, and no request on it was looked at.
    GoAway(u32),
    /// Half an answer, then a reset.
    Break(u32),
}

struct Scripted {
    server: Server,
    requests: Arc<AtomicUsize>,
    own: OwnTls,
}

/// Does one thing after the other, each with the next request on any connection; then answers.
async fn scripted(acts: &[Act]) -> Scripted {
    let authority = Authority::new();
    let shows = authority.issue(&["localhost"]);
    let acceptor = test_certificates::acceptor(&Tls { shows: &shows, asks: None, protocols: &["h2"] });
    let acts = Arc::new(Mutex::new(acts.iter().copied().collect::<VecDeque<Act>>()));
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    let server = Server::start(move |stream| {
        let (acceptor, acts, requests) = (acceptor.clone(), acts.clone(), counted.clone());
        async move {
            let mut stream = acceptor.accept(stream).await.unwrap();
            // The client has had enough.
            let _ = converse(&mut stream, &acts, &requests).await;
        }
    })
    .await;
    Scripted { server, requests, own: authority.trusted() }
}

impl Scripted {
    async fn post(&self, client: &Client) -> Exchange {
        post_own(client, &format!("https://localhost:{}/", self.server.addr.port()), 1, &self.own).await
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }
}

async fn converse(
    stream: &mut TlsStream<TcpStream>,
    acts: &Mutex<VecDeque<Act>>,
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    stream.read_exact(&mut [0; PREFACE]).await?;
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).await?;
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        stream.read_exact(&mut vec![0_u8; length as usize]).await?;
        let (kind, flags, id) = (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        if kind == SETTINGS && flags == 0 {
            stream.write_all(&frame(SETTINGS, 1, 0, &[])).await?;
        }
        if kind == HEADERS {
            requests.fetch_add(1, Ordering::SeqCst);
            let act = acts.lock().unwrap().pop_front().unwrap_or(Act::Answer);
            stream.write_all(&reply(act, id)).await?;
        }
        stream.flush().await?;
    }
}

fn reply(act: Act, id: u32) -> Vec<u8> {
    let reset = |code: u32| frame(3, 0, id, &code.to_be_bytes());
    match act {
        Act::Answer => frame(HEADERS, END_STREAM_AND_HEADERS, id, &[STATUS_200]),
        Act::Reset(code) => reset(code),
        Act::GoAway(code) => frame(7, 0, 0, &[[0; 4], code.to_be_bytes()].concat()),
        Act::Break(code) => {
            [frame(HEADERS, END_HEADERS, id, &[STATUS_200]), frame(0, 0, id, b"half"), reset(code)].concat()
        }
    }
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &id.to_be_bytes(), payload].concat()
}

const DELIVERED: fn(&Exchange) -> bool = |exchange| exchange.outcome.is_ok_and(|outcome| outcome.is_delivered());

#[tokio::test]
async fn a_request_that_the_server_has_not_looked_at_is_sent_again_at_once() {
    let refusing = scripted(&[Act::Reset(REFUSED_STREAM), Act::Reset(REFUSED_STREAM)]).await;
    let exchange = refusing.post(&client()).await;
    assert!(DELIVERED(&exchange), "{exchange:?}");
    assert_eq!((refusing.requests(), refusing.server.accepted()), (3, 1), "on the same connection");
    let closing = scripted(&[Act::Answer, Act::GoAway(NO_ERROR)]).await;
    let client = client();
    for _ in 0..2 {
        let exchange = closing.post(&client).await;
        assert!(DELIVERED(&exchange), "{exchange:?}");
    }
    assert_eq!((closing.requests(), closing.server.accepted()), (3, 2), "on a new connection");
}

#[tokio::test]
async fn a_server_that_refuses_again_and_again_has_failed() {
    let scripted = scripted(&[Act::Reset(REFUSED_STREAM); 9]).await;
    assert_eq!(scripted.post(&client()).await.outcome, Ok(Outcome::Failed(Failure::Reset)));
    assert_eq!(scripted.requests(), 3);
}

#[tokio::test]
async fn a_request_that_may_have_been_looked_at_is_not_sent_again_by_itself() {
    for act in
        [Act::Reset(INTERNAL_ERROR), Act::Reset(CANCEL), Act::GoAway(ENHANCE_YOUR_CALM), Act::GoAway(INTERNAL_ERROR)]
    {
        let scripted = scripted(&[act]).await;
        let client = client();
        assert_eq!(scripted.post(&client).await.outcome, Ok(Outcome::Failed(Failure::Reset)));
        assert_eq!(scripted.requests(), 1);
        let next = scripted.post(&client).await;
        assert!(DELIVERED(&next), "the connection pool has recovered: {next:?}");
    }
}

#[tokio::test]
async fn a_response_that_is_reset_in_its_body_is_a_failure_and_what_had_come_is_kept() {
    let scripted = scripted(&[Act::Break(CANCEL)]).await;
    let exchange = scripted.post(&client()).await;
    assert_eq!(exchange.outcome, Ok(Outcome::Failed(Failure::Reset)));
    assert_eq!(exchange.response_body.as_deref(), Some("half"));
}

#[tokio::test]
async fn requests_wait_for_the_streams_that_the_server_allows() {
    let authority = Authority::new();
    let shows = authority.issue(&["localhost"]);
    let acceptor = test_certificates::acceptor(&Tls { shows: &shows, asks: None, protocols: &["h2"] });
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let peak = most.clone();
    let server = Server::start(move |stream| {
        let (acceptor, open, most) = (acceptor.clone(), open.clone(), most.clone());
        async move {
            let stream = acceptor.accept(stream).await.unwrap();
            let answer = hyper::service::service_fn(move |_: hyper::Request<Incoming>| {
                let (open, most) = (open.clone(), most.clone());
                async move {
                    most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    // Long enough for others to come, if they may.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                    Ok::<_, std::convert::Infallible>(hyper::Response::new(axum::body::Body::empty()))
                }
            });
            let mut http = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            http.max_concurrent_streams(2);
            let _ = http.serve_connection(hyper_util::rt::TokioIo::new(stream), answer).await;
        }
    })
    .await;
    let (client, own) = (client(), authority.trusted());
    let url = format!("https://localhost:{}/", server.addr.port());
    // The first one finds out which version of HTTP it is.
    assert!(DELIVERED(&post_own(&client, &url, 1, &own).await));
    let posts = (0..12).map(|_| post_own(&client, &url, 1, &own));
    let exchanges = futures_util::future::join_all(posts).await;
    assert!(exchanges.iter().all(DELIVERED), "{exchanges:?}");
    assert_eq!((peak.load(Ordering::SeqCst), server.accepted()), (2, 1));
}
