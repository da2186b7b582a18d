use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::domain::outcome::{OurFault, Phase};
use crate::http::test_server::{AMPLE, SHORT, Server, client, options, post, read_request};

fn reset(stream: TcpStream) {
    stream.set_zero_linger().unwrap();
}

async fn failure(server: &Server) -> Failure {
    match post(&client(), &server.url(), AMPLE).await.outcome {
        Ok(Outcome::Failed(failure)) => failure,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_closed_port_refuses() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    drop(listener);
    assert_eq!(post(&client(), &url, AMPLE).await.outcome, Ok(Outcome::Failed(Failure::Refused)));
}

#[tokio::test]
async fn a_connection_reset_before_the_response_or_within_the_body_is_told() {
    let before = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        reset(stream);
    })
    .await;
    assert_eq!(failure(&before).await, Failure::Reset);
    let within = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc").await.unwrap();
        // The client must have read the first part before the reset throws away what is buffered.
        tokio::time::sleep(Duration::from_millis(100)).await;
        reset(stream);
    })
    .await;
    assert_eq!(failure(&within).await, Failure::Reset);
}

#[tokio::test]
async fn an_exchange_that_ends_early_or_is_not_http_says_what_was_wrong() {
    for (text, wrong) in [
        ("", Failure::Unanswered),
        ("HTTP/1.1 200", Failure::Unanswered),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n", Failure::Unanswered),
        ("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nabc", Failure::ShortBody),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", Failure::ShortBody),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfive\r\nhello\r\n", Failure::Framing),
        ("SSH-2.0-OpenSSH_9.6\r\n", Failure::NotHttp),
        ("HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\n", Failure::NotHttp),
    ] {
        let server = Server::start(move |mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(text.as_bytes()).await.unwrap();
        })
        .await;
        assert_eq!(failure(&server).await, wrong, "{text:?}");
    }
}

#[tokio::test]
async fn a_request_that_was_written_to_a_dying_pooled_connection_is_not_sent_twice() {
    let requests = Arc::new(AtomicUsize::new(0));
    let count = requests.clone();
    let server = Server::start(move |mut stream| {
        let count = count.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            if read_request(&mut stream).await.is_some() {
                count.fetch_add(1, Ordering::SeqCst);
            }
        }
    })
    .await;
    let client = client();
    assert!(post(&client, &server.url(), AMPLE).await.outcome.unwrap().is_delivered());
    assert_eq!(post(&client, &server.url(), AMPLE).await.outcome, Ok(Outcome::Failed(Failure::Unanswered)));
    assert_eq!((requests.load(Ordering::SeqCst), server.accepted()), (1, 1));
}

#[tokio::test]
async fn a_pooled_connection_that_the_server_closed_meanwhile_is_replaced() {
    let (closed, mut was_closed) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let closed = closed.clone();
        async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
            drop(stream);
            closed.send(()).unwrap();
        }
    })
    .await;
    let client = client();
    for _ in 0..3 {
        assert!(post(&client, &server.url(), AMPLE).await.outcome.unwrap().is_delivered());
        was_closed.recv().await.unwrap();
        // The end of the connection has yet to reach the client's side.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn hosts_that_are_not_public_are_blocked_unless_allowed() {
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let port = server.addr.port();
    let strict = Client::new(Options { allow_cidrs: vec![], ..options() }).unwrap();
    for host in ["localhost", "LOCALHOST.", "127.0.0.1", "0x7f.1", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254"] {
        let exchange = post(&strict, &format!("http://{host}:{port}/"), AMPLE).await;
        assert_eq!(exchange.outcome, Ok(Outcome::Failed(Failure::BlockedAddress)), "{host}");
    }
    assert_eq!(server.accepted(), 0);
    let v4 = ["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()];
    let allowing = Client::new(Options { allow_cidrs: v4.into(), ..options() }).unwrap();
    assert!(post(&allowing, &format!("http://localhost:{port}/"), AMPLE).await.outcome.unwrap().is_delivered());
}

/// A name server that takes questions and never answers.
async fn deaf_name_server() -> (tokio::net::UdpSocket, Resolver) {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let servers: [SocketAddr; 1] = [socket.local_addr().unwrap()];
    let resolver = Resolver::with_name_servers(&servers, Guard::default(), Duration::from_secs(5)).unwrap();
    (socket, resolver)
}

#[tokio::test]
async fn a_name_server_without_an_answer_is_our_fault_whichever_limit_strikes_first() {
    for (connect_timeout, timeout) in [(AMPLE, SHORT), (SHORT, AMPLE)] {
        let (_socket, resolver) = deaf_name_server().await;
        let client = Client::with_resolver(Options { connect_timeout, ..options() }, resolver).unwrap();
        let exchange = post(&client, "http://example.com/", timeout).await;
        assert_eq!(exchange.outcome, Err(OurFault::ResolverUnavailable));
        assert!(exchange.duration < Duration::from_secs(4), "{:?}", exchange.duration);
    }
}

#[tokio::test]
async fn a_tls_handshake_that_never_ends_is_a_time_out_while_connecting_whichever_limit_strikes_first() {
    for (connect_timeout, timeout) in [(AMPLE, SHORT), (SHORT, AMPLE)] {
        let server = Server::start(|stream| async move {
            std::future::pending::<()>().await;
            drop(stream);
        })
        .await;
        let client = Client::new(Options { connect_timeout, ..options() }).unwrap();
        let exchange = post(&client, &format!("https://{}/", server.addr), timeout).await;
        assert_eq!(exchange.outcome, Ok(Outcome::Timeout(Phase::Connect)));
    }
}
