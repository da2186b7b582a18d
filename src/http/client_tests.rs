use tokio::io::AsyncWriteExt;

use super::*;
use crate::domain::outcome::{Class, OurFault, Phase};
use crate::http::test_server::{AMPLE, SHORT, Server, client, options, post, read_request};

fn response(status: u16) -> Ended {
    Ok(Outcome::response(status, None))
}

#[tokio::test]
async fn the_exact_bytes_and_the_headers_arrive_in_their_order_and_the_answer_is_kept() {
    let (sent, mut received) = tokio::sync::mpsc::unbounded_channel();
    let server = Server::start(move |mut stream| {
        let sent = sent.clone();
        async move {
            sent.send(read_request(&mut stream).await.unwrap()).unwrap();
            stream.write_all(b"HTTP/1.1 201 Created\r\nX-Id: 7\r\ncontent-length: 5\r\n\r\nh\0i\xffo").await.unwrap();
        }
    })
    .await;
    let body = Bytes::from("{ \"a\" :\t1e400, \"\\u00e9\": \"é\" }\n".as_bytes().to_vec());
    let headers = [("webhook-id", "1"), ("content-type", "application/json"), ("x-b", "2"), ("x-a", "3")];
    let request =
        Request { url: &server.url(), headers: headers.to_vec(), body: body.clone(), timeout: AMPLE, own_tls: None };
    let exchange = client().deliver(request).await;
    assert_eq!(exchange.outcome, response(201));
    assert!(exchange.response_headers.contains(&("x-id".into(), "7".into())));
    assert_eq!(exchange.response_body.as_deref(), Some("hi\u{fffd}o"));
    assert!(exchange.duration > Duration::ZERO);
    let (head, arrived) = received.recv().await.unwrap();
    assert_eq!(arrived, body);
    assert!(
        head.starts_with("POST /hook HTTP/1.1\r\nwebhook-id: 1\r\ncontent-type: application/json\r\nx-b: 2\r\nx-a: 3")
    );
    assert!(head.contains("\r\nuser-agent: posthaste/test") && !head.contains("accept-encoding"), "{head}");
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_is_not_followed() {
    let other = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let server =
        Server::answering(format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", other.url()))
            .await;
    assert_eq!(post(&client(), &server.url(), AMPLE).await.outcome, response(302));
    assert_eq!(other.accepted(), 0);
}

#[tokio::test]
async fn retry_after_is_understood_as_seconds_and_as_a_date() {
    let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
    for (value, at_least, at_most) in [("7", 7, 7), (date.as_str(), 90, 100)] {
        let text = format!("HTTP/1.1 429 Slow down\r\nretry-after: {value}\r\ncontent-length: 0\r\n\r\n");
        let exchange = post(&client(), &Server::answering(text).await.url(), AMPLE).await;
        let Ok(Outcome::Response(response)) = exchange.outcome else { panic!("{exchange:?}") };
        let Class::SlowDown { retry_after: Some(wait) } = response.class() else { panic!("{response:?}") };
        assert!((at_least..=at_most).contains(&wait.as_secs()), "{wait:?}");
    }
}

#[tokio::test]
async fn a_connection_is_used_again_after_a_body_larger_than_what_is_kept() {
    let text = format!("HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n{}", "é".repeat(30_000));
    let server = Server::answering(text).await;
    let client = client();
    for _ in 0..5 {
        let exchange = post(&client, &server.url(), AMPLE).await;
        assert_eq!(exchange.outcome, response(200));
        assert_eq!(exchange.response_body.unwrap().len(), 1024);
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn a_huge_body_is_not_read_to_its_end_and_the_status_counts() {
    let server = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        while stream.write_all(&[b'x'; 65536]).await.is_ok() {}
    })
    .await;
    let exchange = post(&client(), &server.url(), AMPLE).await;
    assert_eq!(exchange.outcome, response(200));
    assert_eq!(exchange.response_body.unwrap(), "x".repeat(1024));
}

#[tokio::test]
async fn headers_are_kept_within_bounds() {
    let many: String = (0..90).map(|n| format!("x-{n}: {}\r\n", "v".repeat(2000))).collect();
    let server = Server::answering(format!("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n{many}\r\n")).await;
    let headers = post(&client(), &server.url(), AMPLE).await.response_headers;
    assert_eq!((headers.len(), headers[1].1.len()), (64, 1024));
}

#[tokio::test]
async fn the_deadline_covers_waiting_for_the_head_and_a_head_that_comes_slowly() {
    let silent = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        std::future::pending::<()>().await;
    })
    .await;
    let slow = Server::start(|mut stream| async move {
        read_request(&mut stream).await;
        for byte in b"HTTP/1.1 200 OK\r\nx-long: ".iter().chain([&b'x'; 1000]) {
            let _ = stream.write_all(&[*byte]).await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    for server in [silent, slow] {
        let exchange = post(&client(), &server.url(), SHORT).await;
        assert_eq!(exchange.outcome, Ok(Outcome::Timeout(Phase::Response)));
        assert!(exchange.duration >= SHORT && exchange.duration < SHORT * 10, "{:?}", exchange.duration);
    }
}

#[tokio::test]
async fn a_process_that_stood_still_beyond_the_deadline_blames_nobody() {
    let server = Server::start(|mut stream| async move {
        let _ = read_request(&mut stream).await;
        std::future::pending::<()>().await
    })
    .await;
    let (client, url) = (client(), server.url());
    let posting = tokio::spawn(async move { post(&client, &url, SHORT).await });
    tokio::task::yield_now().await;
    // The whole runtime stands still, as a frozen process does.
    std::thread::sleep(SHORT + Duration::from_millis(1_100));
    assert_eq!(posting.await.unwrap().outcome, Err(OurFault::Stalled));
}

#[tokio::test]
async fn a_process_that_stood_still_while_it_connected_blames_nobody() {
    let server = Server::start(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    let client = Client::new(Options { connect_timeout: SHORT, ..options() }).unwrap();
    let url = format!("https://{}/", server.addr);
    let posting = tokio::spawn(async move { post(&client, &url, AMPLE).await });
    tokio::task::yield_now().await;
    std::thread::sleep(SHORT + Duration::from_millis(1_100));
    assert_eq!(posting.await.unwrap().outcome, Err(OurFault::Stalled));
}

#[tokio::test]
async fn the_deadline_covers_the_body_even_after_a_good_status() {
    for keep in [1024, 2] {
        let server = Server::start(|mut stream| async move {
            read_request(&mut stream).await;
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n").await.unwrap();
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
        let client = Client::new(Options { max_response_bytes: keep, ..options() }).unwrap();
        let exchange = post(&client, &server.url(), SHORT).await;
        assert_eq!(exchange.outcome, Ok(Outcome::Timeout(Phase::Body)));
        assert!(exchange.response_body.unwrap().starts_with("xx"));
        assert!(!exchange.response_headers.is_empty());
    }
}

#[tokio::test]
async fn what_cannot_be_sent_is_told_without_connecting() {
    let server = Server::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let url = server.url();
    for (url, name, value) in [
        ("ftp://example.com/", "x-a", "1"),
        (url.as_str(), "x a", "1"),
        (url.as_str(), "x-a", "1\r\nx-b: 2"),
        (url.as_str(), "Content-Length", "1"),
        (url.as_str(), "transfer-encoding", "chunked"),
    ] {
        let headers = vec![(name, value)];
        let request = Request { url, headers, body: Bytes::new(), timeout: AMPLE, own_tls: None };
        let exchange = client().deliver(request).await;
        assert_eq!(exchange.outcome, Ok(Outcome::Failed(Failure::InvalidRequest)), "{url} {name}");
    }
    assert_eq!(server.accepted(), 0);
}
