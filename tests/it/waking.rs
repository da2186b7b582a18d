//! Who sleeps is woken, and nobody is notified in vain for long.

use std::time::{Duration, Instant};

use sqlx::postgres::PgListener;

use crate::harness::{Proxy, Receiver, Stack, eventually};

/// Whether a producer that commits now notifies.
async fn notifies(stack: &Stack, listener: &mut PgListener) -> bool {
    stack.emit("acme", "order.created", "{}").await;
    stack.execute("select pg_notify('posthaste_wake', 'after the event')").await;
    let mut notified = false;
    while listener.recv().await.unwrap().payload().is_empty() {
        notified = true;
    }
    notified
}

async fn listener(stack: &Stack) -> PgListener {
    let mut listener = PgListener::connect_with(&stack.db).await.unwrap();
    listener.listen("posthaste_wake").await.unwrap();
    listener
}

#[tokio::test]
async fn a_relay_that_was_killed_asleep_keeps_no_producer_notifying() {
    let stack = Stack::new().await;
    let relay = stack.relay().await;
    stack.wait_asleep().await;

    relay.kill();

    let mut listener = listener(&stack).await;
    assert!(notifies(&stack, &mut listener).await, "the flag is still there");
    let quiet = async || (!notifies(&stack, &mut listener).await).then_some(());
    eventually("producers stop notifying", quiet).await;
}

#[tokio::test]
async fn a_relay_that_loses_its_broker_asleep_keeps_no_producer_notifying() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    stack.endpoint("acme", &receiver.url("/"), &[]).await;
    stack.worker().await;
    let proxy = Proxy::to(&stack.binary.amqp_url);
    let relay = stack.start("relay", &[("broker.url", &proxy.url(&stack.binary.amqp_url))]).await;
    stack.wait_asleep().await;

    proxy.cut();

    // Now it waits for the broker, and hears no notification.
    eventually("it has no broker", async || (relay.get("/readyz").await.0 == 503).then_some(())).await;
    let mut listener = listener(&stack).await;
    let quiet = async || (!notifies(&stack, &mut listener).await).then_some(());
    eventually("producers stop notifying", quiet).await;
    proxy.forward();
    receiver.wait_for(1).await;
}

#[tokio::test]
async fn a_worker_whose_listening_session_is_swallowed_listens_again() {
    let (stack, receiver) = (Stack::new().await, Receiver::start());
    let endpoint = stack.endpoint("acme", &receiver.url("/old"), &[]).await;
    stack.relay().await;
    let proxy = Proxy::of("LISTEN", &stack.binary.database_url);
    let worker = stack.start("worker", &[("database.url", &proxy.url(&stack.binary.database_url))]).await;
    stack.emit("acme", "order.created", "{}").await;
    receiver.wait_for(1).await;

    proxy.stall();

    worker.logged_message("cannot follow changes of endpoints; trying again").await;
    let old = "select count(*) from pg_stat_activity where datname = current_database() and query like 'LISTEN%'";
    proxy.forward();
    eventually("it listens", async || (stack.number(old).await > 0).then_some(())).await;
    let change = "update posthaste.endpoints set url = replace(url, '/old', '/new') where id = $1";
    let began = Instant::now();
    stack.change(endpoint.id, change).await;
    eventually("the change is heard", async || {
        let id = stack.emit("acme", "order.created", "{}").await.to_string();
        let requests = receiver.wait_until("it arrives", |all| all.iter().any(|r| r.id() == id)).await;
        requests.iter().any(|request| request.path == "/new").then_some(())
    })
    .await;
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}
