//! PostgreSQL and RabbitMQ that are away, blocked, or have lost something.

use crate::incident::scene::{Alerts, Scene, Seen};
use crate::incident::traffic::emit;
use crate::isolation::receiver::Manner;

const RETRIES: i32 = 10;

pub async fn broker_alarm(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    scene.begin();
    scene.stack.rabbitmq.memory_alarm(true).await?;
    scene.fire(alerts).await?;
    scene.follow("broker-unusable", &[]).await?;
    scene.follow("unconfirmed-batch", &[]).await?;
    scene.stack.rabbitmq.memory_alarm(false).await?;
    scene.repaired();
    scene.clear(alerts).await
}

/// Somebody purges the delay queues.
pub async fn broker_lost(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    let customers = scene.customers("purged", 1, Manner::Refuse(500)).await?;
    scene.begin();
    emit(&scene.stack.db, &customers[0].tenant, RETRIES, None).await?;
    let broker = &scene.stack.broker;
    let waiting = async || broker.depth().await.is_ok_and(|depth| depth.delay >= RETRIES as u64).then_some(());
    crate::wait_for("retries in the delay queues", super::SETTLED, waiting).await?;
    broker.purge_delayed().await?;
    customers[0].site.behave(Manner::Accept(0));
    scene.fire(alerts).await?;
    scene.follow("lost-and-republished", &[]).await?;
    scene.repaired();
    scene.clear(alerts).await
}

pub async fn database_down(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    scene.begin();
    scene.stack.postgres.daemon.stop(libc::SIGINT).await?;
    scene.fire(alerts).await?;
    scene.stack.postgres.start().await?;
    scene.follow("database-unusable", &[]).await?;
    scene.repaired();
    scene.clear(alerts).await
}
