//! What customers do.

use crate::incident::scene::{Alerts, Scene, Seen};
use crate::incident::traffic::{Traffic, emit};
use crate::isolation::receiver::Manner;
use crate::isolation::stack::Customer;

/// Attempts that fail at once fill two tiers of this many, and each endpoint stays below what opens a circuit.
const FAILING: usize = 120;
const EVENTS_EACH: i32 = 6;
/// One more than the alert allows, and more failures than a circuit needs.
const OPEN: usize = 11;
const FAILURES_EACH: i32 = 25;
/// Longer than the alert's bound.
const SLOW_MS: u64 = 6_000;
const SLOW_RATE: f64 = 3.0;
const FORGED_RATE: f64 = 2.0;

fn behave(customers: &[Customer], manner: Manner) {
    customers.iter().for_each(|customer| customer.site.behave(manner));
}

async fn emit_to(scene: &Scene, customers: &[Customer], events: i32) -> Result<(), String> {
    for customer in customers {
        emit(&scene.stack.db, &customer.tenant, events, None).await?;
    }
    Ok(())
}

pub async fn dead_letters(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    let customers = scene.customers("dead", 1, Manner::Refuse(500)).await?;
    scene.begin();
    let event = emit(&scene.stack.db, &customers[0].tenant, 3, Some(1)).await?;
    scene.fire(alerts).await?;
    behave(&customers, Manner::Accept(0));
    let (endpoint, event) = (customers[0].endpoint.to_string(), event.to_string());
    scene.follow("dead-letters", &[("ENDPOINT", &endpoint), ("EVENT", &event)]).await?;
    scene.repaired();
    scene.clear(alerts).await
}

pub async fn retries(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    let customers = scene.customers("failing", FAILING, Manner::Refuse(500)).await?;
    scene.begin();
    emit_to(scene, &customers, EVENTS_EACH).await?;
    scene.fire(alerts).await?;
    let endpoint = customers[0].endpoint.to_string();
    scene.follow("failure-rate", &[("ENDPOINT", &endpoint)]).await?;
    behave(&customers, Manner::Accept(0));
    // Its last command is for when the cause is gone.
    scene.follow("retries-waiting", &[("ENDPOINT", &endpoint)]).await?;
    scene.repaired();
    scene.clear(alerts).await
}

pub async fn circuits(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    let customers = scene.customers("open", OPEN, Manner::Refuse(500)).await?;
    scene.begin();
    emit_to(scene, &customers, FAILURES_EACH).await?;
    let tenants = customers.iter().map(|customer| customer.tenant.clone()).collect();
    // An event a second for each: failures must span half a minute.
    let more = Traffic::start(&scene.stack.db, tenants, OPEN as f64);
    scene.fire(alerts).await?;
    drop(more);
    behave(&customers, Manner::Accept(0));
    let endpoint = customers[0].endpoint.to_string();
    scene.follow("many-circuits-open", &[("ENDPOINT", &endpoint)]).await?;
    scene.repaired();
    scene.clear(alerts).await
}

pub async fn slow(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    let customers = scene.customers("slow", 1, Manner::Accept(SLOW_MS)).await?;
    scene.begin();
    let traffic = Traffic::start(&scene.stack.db, vec![customers[0].tenant.clone()], SLOW_RATE);
    scene.fire(alerts).await?;
    scene.follow("slow-endpoints", &[]).await?;
    behave(&customers, Manner::Accept(0));
    scene.repaired();
    drop(traffic);
    scene.clear(alerts).await
}

/// A service that was deployed with a secret of another endpoint.
pub async fn signatures(scene: &mut Scene, alerts: Alerts) -> Result<Vec<Seen>, String> {
    let wrong = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    scene.begin();
    let (endpoint, receiver, restart) = scene.receiver("forged", Some(wrong)).await?;
    let traffic = Traffic::start(&scene.stack.db, vec!["forged".to_owned()], FORGED_RATE);
    scene.fire(alerts).await?;
    let endpoint = endpoint.to_string();
    scene.follow("signature-failures", &[("ENDPOINT", &endpoint)]).await?;
    drop(receiver);
    let _receiver = scene.restarted(&restart)?;
    scene.repaired();
    let seen = scene.clear(alerts).await;
    drop(traffic);
    scene.stack.settled(super::SETTLED).await?;
    seen
}
