//! Receivers that mean harm: what they do is recorded for what it is, costs little memory and few files, and others are
//! delivered to as ever.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::harness::{Door, Receiver, Reply, Stack, eventually, in_a_thread, raise_open_files, within};
use crate::kit::connections::{accept, listener};
use crate::kit::database::unfinished;

const TOO_LARGE: &str = "the response's headers are too many or too large";
const NOT_HTTP: &str = "the response is not valid HTTP";
const WAITING: &str = "time-out while waiting for the response";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Manner {
    Silent,
    Headers,
    Line,
    Interim,
    Drip,
    Endless,
    Garbage,
    Early,
}

/// A server that behaves like this until the test program ends. Its address.
fn hostile(manner: Manner) -> String {
    let listener = listener();
    let address = listener.local_addr().expect("an address").to_string();
    in_a_thread(async move {
        let listener = TcpListener::from_std(listener).expect("a listener");
        accept(listener, move |stream| behave(stream, manner)).await;
    });
    address
}

async fn behave(mut stream: TcpStream, manner: Manner) {
    let (begin, then) = match manner {
        Manner::Silent => ("", String::new()),
        Manner::Headers => ("HTTP/1.1 200 OK\r\n", "x-a: b\r\n".repeat(1_000)),
        Manner::Line => ("HTTP/1.1 200 OK\r\nx-a: ", "b".repeat(65_536)),
        Manner::Interim => ("", "HTTP/1.1 100 Continue\r\n\r\n".repeat(100)),
        Manner::Drip => ("HTTP/1.1 200 OK\r\ncontent-length: 9999\r\n\r\n", ".".to_owned()),
        Manner::Endless => ("HTTP/1.1 200 OK\r\n\r\n", "x".repeat(65_536)),
        Manner::Garbage => ("<html>\r\n\r\n", String::new()),
        Manner::Early => ("HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n", String::new()),
    };
    // The beginning of the request is enough to answer.
    let _ = stream.read(&mut [0; 4096]).await;
    let _ = stream.write_all(begin.as_bytes()).await;
    if then.is_empty() {
        // Neither reads nor says any more, and does not close.
        return std::future::pending().await;
    }
    while stream.write_all(then.as_bytes()).await.is_ok() {
        if manner == Manner::Drip {
            // As slowly as it is meant to be.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn whatever_a_receiver_does_is_recorded_for_what_it_is_and_leaves_nothing_behind() {
    const TIMEOUT: Duration = Duration::from_secs(8);
    let settings = [("delivery.timeout", "8s"), ("delivery.connect_timeout", "3s"), ("retry.schedule", r#"["300ms"]"#)];
    let (stack, receiver) = (Stack::with(&settings).await, Receiver::start());
    receiver.at("/moved", |_| Reply::status(302).header("location", "http://127.0.0.1:1/elsewhere"));
    let http = |manner| format!("http://{}/", hostile(manner));
    let kinds = [
        ("silent", http(Manner::Silent), Some(WAITING)),
        ("headers", http(Manner::Headers), Some(TOO_LARGE)),
        ("line", http(Manner::Line), Some(TOO_LARGE)),
        ("interim", http(Manner::Interim), Some(TOO_LARGE)),
        ("drip", http(Manner::Drip), Some("time-out while reading the response body")),
        ("endless", http(Manner::Endless), None),
        ("garbage", http(Manner::Garbage), Some(NOT_HTTP)),
        ("early", http(Manner::Early), Some("status 413")),
        ("handshake", format!("https://{}/", hostile(Manner::Silent)), Some("time-out while connecting")),
        ("redirect", receiver.url("/moved"), Some("status 302")),
    ];
    for (tenant, url, _) in &kinds {
        stack.endpoint(tenant, url, &[]).await;
    }
    stack.endpoint("healthy", &receiver.url("/healthy"), &[]).await;
    let process = stack.run().await;
    let first = stack.emit("healthy", "order.created", "{}").await;
    stack.wait_status(first, "delivered").await;
    let (memory_before, _) = process.holds();

    // Larger than what the hostile ones read.
    let payload = format!("\"{}\"", "x".repeat(900_000));
    let mut events = Vec::new();
    for (tenant, ..) in &kinds {
        events.push(stack.emit(tenant, "order.created", &payload).await);
    }
    let among = stack.emit("healthy", "order.created", "{}").await;
    // On a busy machine a deadline may be found passed so late that it is no judgement, and the attempt is made again.
    let settled = async || (unfinished(&stack.db).await.expect("a count") == 0).then_some(());
    within(Duration::from_secs(150), "everything is settled", settled).await;

    for ((kind, _, error), event) in kinds.iter().zip(&events) {
        let attempts = stack.attempts(*event).await;
        assert_eq!(attempts.len(), if error.is_none() { 1 } else { 2 }, "{kind}");
        for attempt in attempts {
            assert_eq!(attempt.error.as_deref(), *error, "{kind}");
            // One that is found much later is no judgement, and not recorded.
            assert!((attempt.duration_ms as u128) < (TIMEOUT * 2).as_millis(), "{kind}: {} ms", attempt.duration_ms);
        }
    }
    assert_eq!(stack.delivery(among).await.attempts, 1);
    assert!(receiver.requests().iter().all(|request| request.path != "/elsewhere"));
    let (memory, _) = process.holds();
    assert!(memory < memory_before + 64 * 1024, "from {memory_before} to {memory} KiB");
    for (kind, url, _) in &kinds {
        let port = url::Url::parse(url).expect("a URL").port().expect("a port");
        let closed = async || (connections_to(port) == 0).then_some(());
        eventually(&format!("no connection to {kind} is open"), closed).await;
    }
}

/// Those that neither side has closed.
fn connections_to(port: u16) -> usize {
    const ESTABLISHED: &str = "01";
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the connections of this machine");
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[2].ends_with(&format!(":{port:04X}")) && row[3] == ESTABLISHED).count()
}

#[tokio::test]
async fn thousands_of_requests_without_an_answer_cost_little_and_hold_up_nobody() {
    const ENDPOINTS: usize = 8;
    const EVENTS: usize = 250;
    raise_open_files();
    let settings = [
        ("worker.concurrency", "4000"),
        ("delivery.connect_timeout", "20s"),
        ("delivery.timeout", "60s"),
        ("circuit.enabled", "false"),
    ];
    let (stack, receiver, door) = (Stack::with(&settings).await, Receiver::start(), Door::closed());
    let closed = door.clone();
    receiver.at("/closed", move |_| Reply::ok().behind(&closed));
    for _ in 0..ENDPOINTS {
        stack.endpoint("many", &receiver.url("/closed"), &["--max-in-flight", "250"]).await;
    }
    stack.endpoint("healthy", &receiver.url("/healthy"), &[]).await;
    let process = stack.run().await;
    let first = stack.emit("healthy", "order.created", "{}").await;
    stack.wait_status(first, "delivered").await;
    let (memory_before, files_before) = process.holds();

    stack.emit_many("many", "order.created", EVENTS as i32).await;

    let all = |open: usize| open >= ENDPOINTS * EVENTS;
    receiver.wait_until("all requests", |requests| all(requests.len())).await;
    let (memory, files) = process.holds();
    assert!(files >= ENDPOINTS * EVENTS, "all of them are open: {files}");
    assert!(files <= files_before + ENDPOINTS * EVENTS + 128, "one connection for each: {files}");
    // Built for debugging, where what is kept of a request while it waits is about twice as large as in a release.
    assert!(memory < memory_before + 320 * 1024, "from {memory_before} to {memory} KiB");
    let among = stack.emit("healthy", "order.created", "{}").await;
    assert_eq!(stack.wait_status(among, "delivered").await.attempts, 1);
    door.open();
    assert_eq!(stack.wait_settled().await.keys().collect::<Vec<_>>(), ["delivered"]);
}
