//! The example receiver, killed again and again under many duplicates: every event has one effect.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use posthaste::domain::key_pair::PrivateKey;
use posthaste::domain::signature::{self, Secret};
use posthaste::receiver::inbox::{Inbox, SCHEMA};
use posthaste::receiver::key::Key;
use posthaste::receiver::verify::Verifier;
use sqlx::postgres::PgPoolOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::harness::{PATIENCE, Process, Stack, eventually, within};

#[path = "../../examples/receiver-axum/app.rs"]
mod app;

const WORK_SCHEMA: &str = include_str!("../../examples/receiver.sql");
/// The database of a receiver that runs as a process of its own: this test binary, started again.
const DATABASE: &str = "POSTHASTE_TEST_RECEIVER_DATABASE";
const THIS_TEST: &str = "inbox_crashes::the_example_receiver_answers_each_kind_of_request";

const EVENTS: usize = 60;
const SENDERS: usize = 50;
const KILLS: usize = 4;
/// A service that does not answer is looked for at the same address again after this time, if no other is known.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

fn secret() -> Secret {
    Secret::from_bytes(vec![7; 32]).expect("a secret")
}

fn private_key() -> PrivateKey {
    PrivateKey::from_bytes(&[8; 32]).expect("a key")
}

async fn serve(database_url: &str, ready: impl FnOnce(SocketAddr)) {
    let pool = PgPoolOptions::new().max_connections(16).connect(database_url).await.expect("the database");
    let receiver = app::Receiver { pool, inbox: Inbox::default().keeping_failed() };
    let verifier = Verifier::with_keys(vec![Key::Secret(secret()), Key::Public(private_key().public())]);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    ready(listener.local_addr().expect("its address"));
    let serving = async { axum::serve(listener, app::router(receiver.clone(), verifier)).await };
    tokio::select! {
        _ = serving => {}
        () = app::work(receiver.clone()) => {}
    }
}

async fn database() -> Stack {
    let stack = Stack::new().await;
    for statement in [SCHEMA, WORK_SCHEMA] {
        sqlx::raw_sql(statement).execute(&stack.db).await.expect("the tables");
    }
    stack
}

fn headers(id: &str, signature: &str, at: i64) -> String {
    format!("webhook-id: {id}\r\nwebhook-timestamp: {at}\r\nwebhook-signature: {signature}\r\n")
}

/// Signed by one key or by the other.
fn signed(id: &str, body: &str, asymmetric: bool) -> String {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock").as_secs() as i64;
    let signature = match asymmetric {
        true => signature::header(&[private_key()], id, at, body.as_bytes()),
        false => signature::header(&[secret()], id, at, body.as_bytes()),
    };
    headers(id, &signature, at)
}

async fn post(address: SocketAddr, headers: &str, body: &str) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let length = body.len();
    let head =
        format!("POST /hooks HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n");
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    let mut response = String::new();
    stream.read_to_string(&mut response).await?;
    let status = response.get(9..12).and_then(|status| status.parse().ok());
    Ok((status.ok_or(std::io::ErrorKind::UnexpectedEof)?, response))
}

/// Also a process of its own for the other test, when that asks for one: then it serves until it is killed.
#[tokio::test]
async fn the_example_receiver_answers_each_kind_of_request() {
    if let Ok(url) = std::env::var(DATABASE) {
        return serve(&url, |address| eprintln!("{}", serde_json::json!({"address": address}))).await;
    }
    let stack = database().await;
    let (ready, address) = tokio::sync::oneshot::channel();
    let url = stack.binary.database_url.clone();
    let serving = tokio::spawn(async move { serve(&url, |address| ready.send(address).unwrap()).await });
    let address = address.await.expect("it serves");
    let body = r#"{"order":"7","version":1,"state":"new"}"#;
    for (what, headers, body, status, says) in [
        ("v1", signed("a", body, false), body, 202, r#"{"order":"7"}"#),
        ("a duplicate", signed("a", body, true), body, 200, r#"{"duplicate":true,"order":"7"}"#),
        ("v1a", signed("b", body, true), body, 202, r#"{"order":"7"}"#),
        ("changed", signed("c", body, true), "{}", 401, "no signature matches"),
        ("unsigned", String::new(), body, 400, "webhook-id"),
        ("not to be handled", signed("d", "{}", false), "{}", 500, ""),
    ] {
        let (code, response) = post(address, &headers, body).await.expect(what);
        assert!(code == status && response.contains(says), "{what}: {response}");
        assert_eq!(response.contains("webhook-duplicate: true"), what == "a duplicate", "{response}");
    }
    eventually("the work is done", async || (stack.number("select count(*) from effects").await == 2).then_some(()))
        .await;
    assert_eq!(stack.number("select count(*) from processed_webhooks where status = 'failed'").await, 1);
    serving.abort();
}

#[test]
fn the_layer_counts_under_the_name_that_is_documented() {
    let documented = include_str!("../../docs/metrics.md");
    assert!(documented.contains(&format!("| `{}` |", posthaste::receiver::layer::METRIC)));
}

/// Killed when it is dropped.
struct Service(Process);

impl Service {
    fn start(database_url: &str) -> Service {
        let mut command = std::process::Command::new(std::env::current_exe().expect("this binary"));
        command.args([THIS_TEST, "--exact", "--nocapture"]).env(DATABASE, database_url);
        Service(Process::start("receiver", command))
    }

    async fn address(&self) -> SocketAddr {
        self.0.logged("its address", |line| line["address"].as_str()?.parse().ok()).await
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.0.kill();
    }
}

#[derive(Default)]
struct Counts {
    answered: AtomicUsize,
    first: AtomicUsize,
    broken: AtomicUsize,
}

/// Each event in turn, again and again until it is answered with 2xx, at whatever address the service has by then.
async fn send_all(number: usize, mut address: watch::Receiver<SocketAddr>, counts: Arc<Counts>) {
    for event in 0..EVENTS {
        let (id, body) = (format!("evt_{event}"), format!(r#"{{"order":"1","version":{event},"state":"{event}"}}"#));
        loop {
            let to = *address.borrow_and_update();
            match post(to, &signed(&id, &body, number.is_multiple_of(2)), &body).await {
                Ok((202, _)) => {
                    counts.first.fetch_add(1, Ordering::Relaxed);
                    break;
                }
                Ok((200, _)) => break,
                // Told to come again.
                Ok((409, _)) => {}
                Ok((500, _)) => {}
                Ok((_, response)) => panic!("{response}"),
                Err(error) => {
                    let broken = error.kind() != std::io::ErrorKind::ConnectionRefused;
                    counts.broken.fetch_add(usize::from(broken), Ordering::Relaxed);
                    let _ = tokio::time::timeout(LOOK_AGAIN, address.changed()).await;
                }
            }
        }
        counts.answered.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_has_one_effect_under_fifty_duplicates_and_kills_in_the_middle() {
    let stack = database().await;
    let mut service = Service::start(&stack.binary.database_url);
    let (at, address) = watch::channel(service.address().await);
    let counts = Arc::new(Counts::default());
    let senders = (0..SENDERS).map(|number| send_all(number, address.clone(), counts.clone()));
    let mut sending = tokio::task::JoinSet::from_iter(senders);
    for kill in 1..=KILLS {
        let enough = EVENTS * SENDERS * kill / (KILLS + 1);
        let answered = async || (counts.answered.load(Ordering::Relaxed) >= enough).then_some(());
        within(4 * PATIENCE, "enough is answered", answered).await;
        service.0.kill();
        service = Service::start(&stack.binary.database_url);
        at.send(service.address().await).expect("the senders are there");
    }
    while let Some(sent) = sending.join_next().await {
        sent.expect("a sender");
    }
    let undone = "select count(*) from jobs";
    eventually("the work is done", async || (stack.number(undone).await == 0).then_some(())).await;
    assert!(counts.broken.load(Ordering::Relaxed) > 0, "no request was broken by a kill");
    assert!(counts.first.load(Ordering::Relaxed) <= EVENTS, "an event was answered twice as if for the first time");
    let all = EVENTS as i64;
    assert_eq!(stack.number("select count(*) from effects").await, all);
    assert_eq!(stack.number("select count(distinct event_id) from effects").await, all);
    assert_eq!(stack.number("select version from orders").await, all - 1, "the newest version");
    assert_eq!(stack.number("select count(*) from processed_webhooks where status = 'done'").await, all);
}
