//! Something of everything that the dashboard shows.

use std::time::{Duration, Instant};

use crate::incident::scene::Scene;
use crate::incident::traffic::{Traffic, emit};
use crate::isolation::receiver::Manner;

/// Attempts that fail, and no more than fill one tier.
const FAILING: usize = 30;
const LAST_EVENTS: i32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

pub async fn run(scene: &mut Scene, time: Duration) -> Result<(), String> {
    let until = Instant::now() + time;
    let prompt = scene.customers("prompt", 20, Manner::Accept(5)).await?;
    let slow = scene.customers("slow", 1, Manner::Accept(2_000)).await?;
    let failing = scene.customers("failing", FAILING, Manner::Refuse(503)).await?;
    let down = scene.customers("down", 2, Manner::Refuse(500)).await?;
    let limited = scene.stack.customer("limited", Manner::Accept(0), &["--rate-limit", "3"]).await?;
    let disabled = scene.customers("disabled", 1, Manner::Accept(0)).await?;
    let id = disabled[0].endpoint.to_string();
    scene.stack.run(&["endpoint", "disable", &id, "--reason", "maintenance"]).await?;
    let tenants = prompt.iter().map(|customer| customer.tenant.clone()).collect();
    let _traffic = [
        Traffic::start(&scene.stack.db, tenants, 60.0),
        Traffic::start(&scene.stack.db, vec![slow[0].tenant.clone()], 2.0),
        Traffic::start(&scene.stack.db, vec![limited.tenant.clone()], 5.0),
        Traffic::start(&scene.stack.db, failing.iter().map(|customer| customer.tenant.clone()).collect(), 6.0),
        Traffic::start(&scene.stack.db, down.iter().map(|customer| customer.tenant.clone()).collect(), 6.0),
        Traffic::start(&scene.stack.db, vec![disabled[0].tenant.clone()], 1.0),
    ];
    let mut last = Instant::now();
    while Instant::now() < until {
        if last.elapsed() > 10 * PAUSE {
            // Some have one attempt only.
            last = Instant::now();
            emit(&scene.stack.db, &failing[0].tenant, LAST_EVENTS, Some(1)).await?;
        }
        // As long as the load is to go on.
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
