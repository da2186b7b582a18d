//! Processes of ours that die, or get no CPU.

use std::time::Duration;

use crate::incident::scene::{Alerts, Scene, Seen};
use crate::incident::traffic::Traffic;
use crate::isolation::receiver::Manner;

/// A worker that mostly stands still: an event that comes in the first part of such a time begins late.
const STILL: Duration = Duration::from_millis(1_800);
const MOVES: Duration = Duration::from_millis(500);
const RATE: f64 = 50.0;

pub async fn relay(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    scene.begin();
    // Dropping it kills it with SIGKILL.
    scene.relay = None;
    scene.fire(alerts).await?;
    scene.follow("relay-or-worker-down", &[]).await?;
    scene.start_relay().await?;
    scene.repaired();
    scene.clear(alerts).await
}

pub async fn worker(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    scene.begin();
    scene.worker = None;
    scene.fire(alerts).await?;
    scene.follow("relay-or-worker-down", &[]).await?;
    scene.start_worker().await?;
    scene.repaired();
    scene.clear(alerts).await
}

/// A worker that is starved of CPU.
pub async fn starved(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    let customers = scene.customers("prompt", 10, Manner::Accept(0)).await?;
    let tenants = customers.iter().map(|customer| customer.tenant.clone()).collect();
    scene.begin();
    let traffic = Traffic::start(&scene.stack.db, tenants, RATE);
    scene.fire_while(alerts, starve).await?;
    scene.follow("slo-burn", &[]).await?;
    scene.repaired();
    let seen = scene.clear(alerts).await;
    drop(traffic);
    seen
}

async fn starve(scene: &mut Scene) -> Result<(), String> {
    let worker = scene.worker.as_ref().ok_or("there is no worker")?;
    for (signal, time) in [(libc::SIGSTOP, STILL), (libc::SIGCONT, MOVES)] {
        worker.signal(signal);
        // As long as it is meant to stand, or to move.
        tokio::time::sleep(time).await;
    }
    Ok(())
}
