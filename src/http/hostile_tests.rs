//! Receivers that mean harm. Whatever they do, the exchange ends by its deadline, holds little memory, and is told for what
//! it is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::*;
use crate::domain::outcome::Phase;
use crate::http::test_server::{AMPLE, SHORT, Server, client, options, post, read_request};

const TOO_LARGE: Ended = Ok(Outcome::Failed(Failure::HeadersTooLarge));
const NOT_HTTP: Ended = Ok(Outcome::Failed(Failure::NotHttp));
const FRAMING: Ended = Ok(Outcome::Failed(Failure::Framing));
/// More than the kernel keeps on the way of one connection.
const HUGE: usize = 64 * 1024 * 1024;

fn response(status: u16) -> Ended {
    Ok(Outcome::response(status, None))
}

/// Reads the request, begins as it is told, then goes on with the second text for as long as the client takes it. What is
/// sent to the channel says that the client has closed the connection.
async fn endless(begin: impl Into<Vec<u8>>, then: impl Into<Vec<u8>>) -> (Server, mpsc::UnboundedReceiver<()>) {
    let (closed, was_closed) = mpsc::unbounded_channel();
    let (begin, then) = (Arc::new(begin.into()), Arc::new(then.into()));
    let server = Server::start(move |mut stream| {
        let (closed, begin, then) = (closed.clone(), begin.clone(), then.clone());
        async move {
            read_request(&mut stream).await;
            let mut open = stream.write_all(&begin).await.is_ok();
            while open {
                open = stream.write_all(&then).await.is_ok();
            }
            let _ = closed.send(());
        }
    })
    .await;
    (server, was_closed)
}

/// Answers at once and then says nothing, and does not close.
async fn open_ended(text: impl Into<Vec<u8>>) -> Server {
    let text = Arc::new(text.into());
    Server::start(move |mut stream| {
        let text = text.clone();
        async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(&text).await;
            std::future::pending::<()>().await;
        }
    })
    .await
}

#[tokio::test]
async fn a_flood_of_headers_is_cut_off() {
    let many: String = (0..20_000).map(|n| format!("x-{n}: v\r\n")).collect();
    let server = open_ended(format!("HTTP/1.1 200 OK\r\n{many}\r\n")).await;
    assert_eq!(post(&client(), &server.url(), AMPLE).await.outcome, TOO_LARGE);
    for (begin, then) in [
        ("HTTP/1.1 200 OK\r\nx-long: ", "x".repeat(65_536)),
        ("HTTP/1.1 200 ", "x".repeat(65_536)),
        ("HTTP/1.1 200 OK\r\n", format!("x-many: {}\r\n", "x".repeat(16_384))),
    ] {
        let (server, mut closed) = endless(begin, then).await;
        assert_eq!(post(&client(), &server.url(), AMPLE).await.outcome, TOO_LARGE, "{begin:?}");
        closed.recv().await.unwrap();
    }
}

#[tokio::test]
async fn provisional_answers_without_end_are_cut_off() {
    for interim in ["HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nlink: </x>; rel=preload\r\n\r\n"] {
        let (server, mut closed) = endless("", interim.repeat(100)).await;
        assert_eq!(post(&client(), &server.url(), AMPLE).await.outcome, TOO_LARGE, "{interim:?}");
        closed.recv().await.unwrap();
    }
    let switching = open_ended("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n").await;
    assert_eq!(post(&client(), &switching.url(), AMPLE).await.outcome, response(101), "nobody asked for that");
}

async fn post_large(client: &Client, server: &Server, timeout: Duration) -> Exchange {
    let (body, url) = (Bytes::from(vec![b' '; HUGE]), server.url());
    client.deliver(Request { url: &url, headers: vec![], body, timeout, own_tls: None }).await
}

/// Reads the head alone.
async fn read_head(stream: &mut TcpStream) {
    let mut last = [0; 4];
    while last != *b"\r\n\r\n" {
        last.rotate_left(1);
        last[3] = stream.read_u8().await.unwrap();
    }
}

#[tokio::test]
async fn an_answer_before_the_body_was_sent_counts_and_the_rest_is_not_sent() {
    let (reading, mut was_read) = mpsc::unbounded_channel();
    let (go, going) = tokio::sync::watch::channel(false);
    let server = Server::start(move |mut stream| {
        let (reading, mut going) = (reading.clone(), going.clone());
        async move {
            read_head(&mut stream).await;
            stream.write_all(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            going.wait_for(|go| *go).await.unwrap();
            let mut count = 0;
            let mut buffer = vec![0; 65_536];
            while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                count += length;
            }
            reading.send(count).unwrap();
        }
    })
    .await;
    assert_eq!(post_large(&client(), &server, AMPLE).await.outcome, response(413));
    go.send(true).unwrap();
    assert!(was_read.recv().await.unwrap() < HUGE, "the connection was given up");
}

#[tokio::test]
async fn an_answer_to_a_part_of_the_request_and_a_close_are_either_that_answer_or_a_broken_connection() {
    for reads in [0, 1, 100_000] {
        let server = Server::start(move |mut stream| async move {
            let _ = stream.read_exact(&mut vec![0; reads]).await;
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").await;
        })
        .await;
        let outcome = post_large(&client(), &server, AMPLE).await.outcome;
        // Whether the answer is seen before the end of the connection is up to the network. One that came before the
        // request is no answer.
        let broken =
            [Failure::Reset, Failure::Unanswered, Failure::Protocol].map(|failure| Ok(Outcome::Failed(failure)));
        let expected = [&[response(400)], &broken[..]].concat();
        assert!(expected.contains(&outcome), "{reads}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_server_that_never_reads_ends_at_the_deadline_and_gets_no_more() {
    let (reading, mut was_read) = mpsc::unbounded_channel();
    let (go, going) = tokio::sync::watch::channel(false);
    let server = Server::start(move |mut stream| {
        let (reading, mut going) = (reading.clone(), going.clone());
        async move {
            going.wait_for(|go| *go).await.unwrap();
            let mut all = Vec::new();
            // An error is as good an end.
            let _ = stream.read_to_end(&mut all).await;
            reading.send(all.len()).unwrap();
        }
    })
    .await;
    assert_eq!(post_large(&client(), &server, SHORT).await.outcome, Ok(Outcome::Timeout(Phase::Response)));
    go.send(true).unwrap();
    assert!(was_read.recv().await.unwrap() < HUGE, "the connection was closed");
}

#[tokio::test]
async fn a_chunked_body_without_an_end_is_read_no_further_than_is_worth_it() {
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(65_536));
    let (server, mut closed) = endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", chunk).await;
    let exchange = post(&client(), &server.url(), AMPLE).await;
    assert_eq!((exchange.outcome, exchange.response_body.unwrap().len()), (response(200), 1024));
    closed.recv().await.unwrap();
    for (begin, then) in [("0\r\n", "x-trailer: v\r\n".repeat(1_000)), ("1;", "x=y;".repeat(1_000))] {
        let begin = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{begin}");
        let (server, mut closed) = endless(begin.clone(), then).await;
        assert_eq!(post(&client(), &server.url(), AMPLE).await.outcome, FRAMING, "{begin}");
        closed.recv().await.unwrap();
    }
    let dripping = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        let mut open = stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.is_ok();
        while open {
            open = stream.write_all(b"1\r\nx\r\n").await.is_ok();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(post(&client(), &dripping.url(), SHORT).await.outcome, Ok(Outcome::Timeout(Phase::Body)));
}

#[tokio::test]
async fn a_compressed_body_is_kept_as_it_came() {
    let bomb = [b"\x1f\x8b\x08\0\0\0\0\0\0\x03".as_slice(), &[0xed; 50_000]].concat();
    for encoding in ["gzip", "deflate", "br", "zstd", "gzip, gzip, gzip"] {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-encoding: {encoding}\r\ncontent-length: {}\r\n\r\n", bomb.len());
        let server = Server::answering([head.as_bytes(), &bomb].concat()).await;
        let exchange = post(&client(), &server.url(), AMPLE).await;
        assert_eq!((exchange.outcome, exchange.response_body), (response(200), Some(body::text(&bomb[..1024], 1024))));
        assert!(exchange.response_headers.contains(&("content-encoding".into(), encoding.into())));
    }
}

#[tokio::test]
async fn what_stands_behind_an_answer_is_no_answer_to_the_next_request() {
    for first in [
        "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok",
        "HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n",
    ] {
        let second = "HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n";
        let server = Server::answering(format!("{first}{second}")).await;
        let client = client();
        for _ in 0..3 {
            let outcome = post(&client, &server.url(), AMPLE).await.outcome.unwrap();
            assert!(outcome.is_delivered(), "{first:?}: {outcome:?}");
        }
        assert_eq!(server.accepted(), 3, "a connection with something left over is not used again");
    }
    let lengths = open_ended("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok!").await;
    assert_eq!(post(&client(), &lengths.url(), AMPLE).await.outcome, NOT_HTTP);
}

#[tokio::test]
async fn what_is_not_http_is_told_without_waiting_for_more() {
    for garbage in [
        "<html><body>hello</body></html>",
        "HTTP/0.9 200 OK\r\n\r\n",
        "HTTP/3.0 200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 099 X\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 2000 X\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        "HTTP/1.1 200 OK\r\nx: \0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 99999999999999999999999\r\n\r\n",
        "\0\0\x12\x04\0\0\0\0\0",
        "\x15\x03\x03\0\x02\x02\x28",
    ] {
        let server = open_ended(garbage).await;
        assert_eq!(post(&client(), &server.url(), AMPLE).await.outcome, NOT_HTTP, "{garbage:?}");
    }
    let overflows = open_ended("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfffffffffffffffff\r\n").await;
    assert_eq!(post(&client(), &overflows.url(), AMPLE).await.outcome, FRAMING);
    let begun = open_ended("HTTP/1.1 200").await;
    assert_eq!(post(&client(), &begun.url(), SHORT).await.outcome, Ok(Outcome::Timeout(Phase::Response)));
    let unknown = Server::answering("HTTP/1.1 999 X\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(post(&client(), &unknown.url(), AMPLE).await.outcome, response(999));
}

#[tokio::test]
async fn a_large_body_arrives_as_it_is_and_its_connection_is_used_again() {
    let (sent, mut received) = mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let sent = sent.clone();
        async move {
            while let Some((head, body)) = read_request(&mut stream).await {
                sent.send((head, body)).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            }
        }
    })
    .await;
    let client = client();
    for length in [16_384usize, 16_385, 32_768, 1_000_003] {
        let body: Bytes = (0..length).map(|n| (n * 7 % 251) as u8).collect();
        let request =
            Request { url: &server.url(), headers: vec![], body: body.clone(), timeout: AMPLE, own_tls: None };
        assert_eq!(client.deliver(request).await.outcome, response(200));
        let (head, arrived) = received.recv().await.unwrap();
        assert!(head.contains(&format!("content-length: {length}")) && !head.contains("transfer-encoding"), "{head}");
        assert!(arrived == body, "{length} bytes");
    }
    assert_eq!(server.accepted(), 1);
}

/// Answers on every address of this machine, and counts the connections that are open.
async fn on_every_address() -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let open = Arc::new(AtomicUsize::new(0));
    let counted = open.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let open = counted.clone();
            open.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                while read_request(&mut stream).await.is_some() {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
                }
                open.fetch_sub(1, Ordering::SeqCst);
            });
        }
    });
    (port, open)
}

/// `scripts/hostile` asks for a hundred thousand hosts, and prints the memory that this process has taken.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_number_of_hosts_leaves_few_connections_open() {
    const AT_ONCE: usize = 16;
    const KEPT: usize = 100;
    let hosts: u32 = std::env::var("POSTHASTE_TEST_HOSTS").map_or(600, |hosts| hosts.parse().unwrap());
    let (port, open) = on_every_address().await;
    let client = Client::new(Options { max_kept_hosts: KEPT, ..options() }).unwrap();
    let (mut posting, mut most_open) = (JoinSet::new(), 0);
    for n in 0..hosts {
        if posting.len() == AT_ONCE {
            posting.join_next().await.unwrap().unwrap();
        }
        let [_, b, c, d] = n.to_be_bytes();
        let (client, url) = (client.clone(), format!("http://127.{b}.{c}.{}:{port}/", d.max(1)));
        posting.spawn(async move { assert_eq!(post(&client, &url, AMPLE).await.outcome, response(200), "{url}") });
        most_open = most_open.max(open.load(Ordering::SeqCst));
    }
    posting.join_all().await;
    // The server hears of the end of a connection a moment later.
    assert!(most_open <= KEPT + 4 * AT_ONCE, "{most_open} connections were open at once");
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let memory = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!("{hosts} hosts, {most_open} connections open at once at most; {memory}");
}
