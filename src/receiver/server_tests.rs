use std::time::{SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::*;
use crate::domain::signature::{self, Secret};
use crate::receiver::settings::MAX_BODY_BYTES;

const AMPLE: Duration = Duration::from_secs(20);

async fn start(behaviour: &str, settings: Settings) -> (Handle, oneshot::Sender<()>, tokio::task::JoinHandle<()>) {
    let settings = Settings { behaviour: behaviour.parse().unwrap(), quiet: true, ..settings };
    let server = Server::bind("127.0.0.1:0".parse().unwrap(), settings).await.unwrap();
    let handle = server.handle();
    let (stop, stopped) = oneshot::channel::<()>();
    let serving = tokio::spawn(server.serve(async move {
        let _ = stopped.await;
    }));
    (handle, stop, serving)
}

/// The whole response, read until the server closes; empty when it never answers.
async fn send(handle: &Handle, method: &str, path: &str, headers: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(handle.local_addr()).await?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    Ok(response)
}

async fn status(handle: &Handle, id: &str) -> String {
    let response = send(handle, "POST", "/any/path", &format!("webhook-id: {id}\r\n"), "{}").await.unwrap();
    response[9..12].to_owned()
}

#[tokio::test]
async fn behaviours_answer_as_they_say_and_can_be_changed_while_running() {
    let (handle, _stop, _) = start("fail-first:2", Settings::default()).await;
    let mut seen = Vec::new();
    for id in ["a", "a", "b", "a", "b", "b"] {
        seen.push(status(&handle, id).await);
    }
    assert_eq!(seen, ["500", "500", "500", "200", "500", "200"]);
    for (text, expected) in [
        ("status:410", vec!["HTTP/1.1 410 "]),
        ("retry-after:7:503", vec!["HTTP/1.1 503 ", "\r\nretry-after: 7\r\n"]),
        ("redirect:http://example.com/x", vec!["HTTP/1.1 302 ", "\r\nlocation: http://example.com/x\r\n"]),
        ("slow:50ms", vec!["HTTP/1.1 200 "]),
        ("fail-share:1", vec!["HTTP/1.1 500 "]),
        ("fail-share:0", vec!["HTTP/1.1 200 "]),
    ] {
        let confirmed = send(&handle, "POST", "/behaviour", "", text).await.unwrap();
        assert!(confirmed.starts_with("HTTP/1.1 200") && confirmed.ends_with(&format!("{text}\n")), "{confirmed}");
        let response = send(&handle, "POST", "/", "", "{}").await.unwrap();
        assert!(expected.iter().all(|part| response.contains(part)), "{text}: {response}");
    }
    let refused = send(&handle, "PUT", "/_control/behaviour", "", "dance").await.unwrap();
    assert!(refused.starts_with("HTTP/1.1 400") && refused.contains("behaviour: 'dance' is not known"), "{refused}");
    assert!(send(&handle, "GET", "/_control/behaviour", "", "").await.unwrap().ends_with("fail-share:0\n"));
    assert!(send(&handle, "DELETE", "/x", "", "").await.unwrap().starts_with("HTTP/1.1 405"));
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let (handle, _stop, _) = start("reset", Settings::default()).await;
    let error = send(&handle, "POST", "/", "webhook-id: a\r\n", "{}").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(handle.wait_until(AMPLE, |stats| stats.failed == 1).await.unwrap().ok, 0);
}

#[tokio::test]
async fn a_request_that_hangs_counts_as_failed_once_its_client_gives_up_and_a_dripping_one_at_once() {
    let (handle, _stop, _) = start("hang", Settings::default()).await;
    let waiting = tokio::time::timeout(Duration::from_millis(100), status(&handle, "a")).await;
    assert!(waiting.is_err());
    handle.wait_until(AMPLE, |stats| stats.failed == 1).await.unwrap();
    handle.set_behaviour("drip:10ms".parse().unwrap());
    let mut stream = TcpStream::connect(handle.local_addr()).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    let mut response = String::new();
    while response.matches("1\r\n.\r\n").count() < 3 {
        let mut buffer = [0; 1024];
        let length = stream.read(&mut buffer).await.unwrap();
        response.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    assert!(response.starts_with("HTTP/1.1 200 OK"));
    let stats = handle.wait_until(AMPLE, |stats| stats.failed == 2).await.unwrap();
    assert_eq!((stats.ok, stats.requests, stats.max_concurrent), (0, 2, 1));
}

#[tokio::test]
async fn every_signature_is_verified_and_a_bad_one_gets_401() {
    let secret = Secret::from_bytes(vec![7; 32]).unwrap();
    let settings = Settings { secrets: vec![secret.clone()], record: 2, ..Settings::default() };
    let (handle, _stop, _) = start("ok", settings).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    let signature = signature::header(&[secret], "evt_1", now, b"{\"a\":1}");
    let headers = format!("webhook-id: evt_1\r\nwebhook-timestamp: {now}\r\nwebhook-signature: {signature}\r\n");
    assert!(send(&handle, "POST", "/x", &headers, "{\"a\":1}").await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(send(&handle, "POST", "/x", &headers, "{\"a\":1}").await.unwrap().starts_with("HTTP/1.1 200"));
    let changed = send(&handle, "POST", "/x?y", &headers, "{\"a\":2}").await.unwrap();
    assert!(changed.starts_with("HTTP/1.1 401") && changed.contains("no signature matches"), "{changed}");
    let stats = handle.wait_until(AMPLE, |stats| stats.ok + stats.failed == 3).await.unwrap();
    assert_eq!((stats.verified, stats.rejected, stats.ok, stats.failed), (2, 1, 2, 1));
    assert_eq!((stats.ids, stats.duplicates), (1, 1));
    let recorded = handle.requests();
    assert_eq!(recorded.len(), 2, "the oldest is dropped");
    assert_eq!((recorded[1].path.as_str(), &recorded[1].body[..]), ("/x?y", &b"{\"a\":2}"[..]));
    assert_eq!(recorded[1].header("webhook-id"), Some("evt_1"));
}

#[tokio::test]
async fn the_counts_are_served_as_json_and_can_be_set_back() {
    let (handle, _stop, _) = start("ok", Settings::default()).await;
    for id in ["a", "b", "a"] {
        assert_eq!(status(&handle, id).await, "200");
    }
    handle.wait_until(AMPLE, |stats| stats.ok == 3).await.unwrap();
    let json = async |path| -> serde_json::Value {
        let response = send(&handle, "GET", path, "", "").await.unwrap();
        serde_json::from_str(response.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    let stats = json("/stats").await;
    assert_eq!((&stats["requests"], &stats["ids"], &stats["duplicates"]), (&3.into(), &2.into(), &1.into()));
    assert!(stats["first_at_ms"].as_u64() <= stats["last_at_ms"].as_u64());
    assert_eq!(json("/_control/ids").await, serde_json::json!({"a": 2, "b": 1}));
    send(&handle, "POST", "/_control/reset", "", "").await.unwrap();
    assert_eq!((handle.stats(), handle.ids().len()), (Stats::default(), 0));
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let (handle, _stop, _) = start("ok", Settings::default()).await;
    let mut stream = TcpStream::connect(handle.local_addr()).await.unwrap();
    let head = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n", MAX_BODY_BYTES + 1);
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 413");
}

#[tokio::test]
async fn stopping_lets_a_response_in_flight_end_and_waits_no_longer_than_the_grace() {
    let (handle, stop, serving) = start("slow:200ms", Settings::default()).await;
    let client = handle.clone();
    let slow = tokio::spawn(async move { status(&client, "a").await });
    handle.wait_until(AMPLE, |stats| stats.requests == 1).await.unwrap();
    stop.send(()).unwrap();
    assert_eq!(slow.await.unwrap(), "200");
    tokio::time::timeout(AMPLE, serving).await.unwrap().unwrap();
    let (handle, stop, serving) = start("hang", Settings::default()).await;
    let client = handle.clone();
    let hanging = tokio::spawn(async move { send(&client, "POST", "/", "", "").await });
    handle.wait_until(AMPLE, |stats| stats.requests == 1).await.unwrap();
    stop.send(()).unwrap();
    tokio::time::timeout(AMPLE, serving).await.unwrap().unwrap();
    assert!(hanging.await.unwrap().is_ok_and(|response| response.is_empty()));
}
