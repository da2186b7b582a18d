//! The servers themselves die or refuse: Posthaste comes back by itself, loses nothing and spends no attempt.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;
use sqlx::PgPool;
use uuid::Uuid;

use crate::harness::{Door, MAX_MESSAGE_BYTES, OwnServers, Process, Receiver, Reply, Stack, eventually};

const TICK: Duration = Duration::from_millis(50);
const PER_TICK: i32 = 10;

/// Emits at a steady rate until it is told to stop, and keeps what was committed for certain.
struct Producer {
    stop: Arc<AtomicBool>,
    committed: Arc<Mutex<Vec<Uuid>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Producer {
    fn start(db: PgPool) -> Producer {
        let (stop, committed) = (Arc::new(AtomicBool::new(false)), Arc::<Mutex<Vec<Uuid>>>::default());
        let (told, ledger) = (stop.clone(), committed.clone());
        let task = tokio::spawn(async move {
            let mut tick = tokio::time::interval(TICK);
            tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            while !told.load(Ordering::Relaxed) {
                tick.tick().await;
                let emit = "select posthaste.emit('acme', 'order.created', '{}') from generate_series(1, $1)";
                // An error may hide a commit, but never the other way round.
                if let Ok(ids) = sqlx::query_scalar(emit).bind(PER_TICK).fetch_all(&db).await {
                    ledger.lock().unwrap().extend::<Vec<Uuid>>(ids);
                }
            }
        });
        Producer { stop, committed, task }
    }

    fn count(&self) -> usize {
        self.committed.lock().unwrap().len()
    }

    async fn stop(self) -> Vec<Uuid> {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        std::mem::take(&mut self.committed.lock().unwrap())
    }
}

struct Load {
    stack: Stack,
    receiver: Receiver,
    process: Process,
    producer: Producer,
}

impl Load {
    async fn start(own: &OwnServers) -> Load {
        let (stack, receiver) = (Stack::on(&own.servers, &[]).await, Receiver::start());
        stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
        let process = stack.run().await;
        let producer = Producer::start(stack.db.clone());
        receiver.wait_for(100).await;
        Load { stack, receiver, process, producer }
    }

    /// Waits until events arrive that were emitted after now, and says how long that took.
    async fn recovered(&self, fault: &str) {
        let (began, before, arrived) = (Instant::now(), self.producer.count(), self.receiver.count());
        eventually("producers commit again", async || (self.producer.count() > before + 50).then_some(())).await;
        self.receiver.wait_for(arrived + 50).await;
        println!("{fault}: recovered {:?} after the server was back", began.elapsed());
    }

    /// Every committed event was delivered with one attempt spent.
    async fn audit(self, fault: &str) {
        let committed = self.producer.stop().await;
        let statuses = self.stack.wait_settled().await;
        let (counts, posts) = (self.receiver.counts(), self.receiver.count());
        let lost = committed.iter().filter(|id| !counts.contains_key(&id.to_string())).count();
        println!("{fault}: {} events, {lost} lost, {} posted twice", counts.len(), posts - counts.len());
        assert_eq!(lost, 0);
        assert_eq!(statuses.keys().collect::<Vec<_>>(), ["delivered"], "{statuses:?}");
        let deliveries = self.stack.deliveries().await;
        assert!(deliveries.iter().all(|delivery| delivery.attempts == 1), "our fault spends no attempt");
        let recorded: HashSet<String> = deliveries.iter().map(|delivery| delivery.event_id.to_string()).collect();
        assert!(counts.keys().all(|id| recorded.contains(id)), "nothing arrived that was not committed");
        assert!(self.process.is_running());
    }
}

#[tokio::test]
async fn a_broker_that_is_restarted_under_load_loses_nothing() {
    let Some(mut own) = OwnServers::lock("a_broker_that_is_restarted_under_load_loses_nothing").await else { return };
    let own = own.as_mut().unwrap();
    let load = Load::start(own).await;
    own.native.rabbitmq.stop().await.unwrap();
    own.native.rabbitmq.start().await.unwrap();
    load.recovered("broker restarted").await;
    load.audit("broker restarted").await;
}

#[tokio::test]
async fn a_broker_that_is_killed_under_load_loses_nothing() {
    let Some(mut own) = OwnServers::lock("a_broker_that_is_killed_under_load_loses_nothing").await else { return };
    let own = own.as_mut().unwrap();
    let load = Load::start(own).await;
    own.native.rabbitmq.daemon.kill();
    own.native.rabbitmq.start().await.unwrap();
    load.recovered("broker killed").await;
    load.audit("broker killed").await;
}

#[tokio::test]
async fn a_database_that_is_killed_under_load_loses_nothing() {
    let Some(mut own) = OwnServers::lock("a_database_that_is_killed_under_load_loses_nothing").await else { return };
    let own = own.as_mut().unwrap();
    let load = Load::start(own).await;
    // The postmaster alone, as an OOM killer would.
    own.native.postgres.daemon.kill();
    own.native.postgres.start().await.unwrap();
    load.recovered("database killed").await;
    load.audit("database killed").await;
}

#[tokio::test]
async fn a_broker_short_of_memory_stops_the_relay_and_not_the_producers() {
    let Some(own) = OwnServers::lock("a_broker_short_of_memory_stops_the_relay_and_not_the_producers").await else {
        return;
    };
    let own = own.as_ref().unwrap();
    let (stack, receiver) = (Stack::on(&own.servers, &[]).await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    let relay = stack.relay().await;
    stack.worker().await;
    stack.emit_many("acme", "order.created", 20).await;
    receiver.wait_for(20).await;

    own.memory_alarm(true).await;

    let answer = async |status| {
        eventually(&format!("/readyz answers {status}"), async || {
            let (got, body) = relay.get("/readyz").await;
            (got == status).then_some(body)
        })
        .await
    };
    let body: serde_json::Value = serde_json::from_str(&answer(503).await).unwrap();
    assert!(body["not_ready"]["broker"].is_string(), "{body}");
    stack.emit_many("acme", "order.created", 300).await;
    // That nothing happens gives no signal: a relay that claims would have emptied the outbox many times over.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stack.number("select count(*) from posthaste.outbox").await, 300, "it stopped claiming");
    assert_eq!(receiver.count(), 20);
    own.memory_alarm(false).await;
    answer(200).await;
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 320)].into());
    assert!(receiver.counts().values().all(|count| *count == 1));
    assert!(stack.deliveries().await.iter().all(|delivery| delivery.attempts == 1));
}

#[tokio::test]
async fn a_broker_without_disk_delays_what_follows_an_attempt_and_costs_no_further_one() {
    let test = "a_broker_without_disk_delays_what_follows_an_attempt_and_costs_no_further_one";
    let Some(own) = OwnServers::lock(test).await else { return };
    let own = own.as_ref().unwrap();
    let (stack, receiver) = (Stack::on(&own.servers, &[("worker.concurrency", "96")]).await, Receiver::start());
    let door = Door::closed();
    let first = door.clone();
    receiver.at("/", move |n| if n == 1 { Reply::status(500).behind(&first) } else { Reply::ok() });
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    let process = stack.run().await;
    stack.emit_many("acme", "order.created", 20).await;
    receiver.wait_for(20).await;
    own.disk_alarm(true).await;
    eventually("the alarm is noticed", async || (process.get("/readyz").await.0 == 503).then_some(())).await;

    door.open();

    // Whatever the broker does not take now PostgreSQL keeps.
    let kept = "select count(*) from posthaste.deliveries where attempts = 1 and status in ('retrying', 'held')";
    eventually("20 retries are recorded", async || (stack.number(kept).await == 20).then_some(())).await;
    own.disk_alarm(false).await;
    assert_eq!(stack.wait_settled().await, [("delivered".to_owned(), 20)].into());
    assert!(stack.deliveries().await.iter().all(|delivery| delivery.attempts == 2));
    assert!(receiver.counts().values().all(|count| *count == 2), "each attempt was made once");
}

#[tokio::test]
async fn a_message_too_large_for_the_broker_is_set_aside_and_blocks_nothing() {
    let Some(own) = OwnServers::lock("a_message_too_large_for_the_broker_is_set_aside_and_blocks_nothing").await else {
        return;
    };
    let own = own.as_ref().unwrap();
    let (stack, receiver) = (Stack::on(&own.servers, &[]).await, Receiver::start());
    receiver.at("/", |_| Reply::ok());
    stack.endpoint("acme", &receiver.url("/"), &["--max-in-flight", "100"]).await;
    stack.run().await;
    let large = format!("\"{}\"", "x".repeat(MAX_MESSAGE_BYTES + 1));
    let mut together = stack.db.begin().await.unwrap();
    let emit = "select posthaste.emit('acme', 'order.created', $1::text::json)";
    let emit_large = sqlx::query_scalar::<_, Uuid>(emit).bind(&large).fetch_one(&mut *together);
    let too_large = emit_large.await.unwrap();
    for _ in 0..30 {
        sqlx::query(emit).bind("{}").execute(&mut *together).await.unwrap();
    }
    together.commit().await.unwrap();

    let statuses = stack.wait_settled().await;

    assert_eq!(statuses, [("dead".to_owned(), 1), ("delivered".to_owned(), 30)].into());
    let dead = stack.delivery(too_large).await;
    assert_eq!((dead.dead_reason.as_deref(), dead.attempts), (Some("unpublishable"), 0));
    let error = dead.last_error.unwrap();
    assert!(error.contains("size") && !error.contains("xxx"), "the broker's reason: {error}");
    let listed = stack.cli(&["dead", "list", "--json"]).await.json();
    assert_eq!((&listed[0]["event_id"], &listed[0]["last_error"]), (&json!(too_large.to_string()), &json!(error)));
    assert!(!receiver.counts().contains_key(&too_large.to_string()));
    let doubled = receiver.count() - receiver.counts().len();
    println!("a message too large: {doubled} of the 30 beside it were posted twice");
    let others = "select count(*) from posthaste.deliveries where status = 'delivered' and attempts = 1";
    assert_eq!(stack.number(others).await, 30);
}
