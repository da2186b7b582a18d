//! What operators do all day: secrets are rotated, limits changed, endpoints added and removed.

use serde_json::Value;
use uuid::Uuid;

use super::load;
use crate::chaos::ledger::FOR_TWO;
use crate::chaos::run::Running;
use crate::chaos::schedule::ENDPOINTS;

/// Customers that come with an endpoint of their own, and leave again.
const GUESTS: usize = 10;
const EVENTS_OF_GUEST: usize = 50;
/// The endpoint whose place at the receiver the guests' endpoints share, and the type that it alone takes.
const NUMBER: usize = ENDPOINTS - 1;
const TYPE: usize = FOR_TWO + NUMBER;
/// How long old secrets go on signing.
const GRACE: &str = "30s";
const IN_FLIGHT: usize = 32;

/// Gives every endpoint a new secret and a new limit, and sends something to endpoints that are new.
pub async fn come(running: &Running, part: usize) -> Result<Vec<Uuid>, String> {
    let stack = &running.stack;
    let mut secret = String::new();
    for number in 0..ENDPOINTS {
        let id = stack.endpoint(number).to_string();
        // Digits are base64 too.
        secret = format!("whsec_{:032x}{:016x}", rand::random::<u128>(), rand::random::<u64>());
        // The receiver knows it first: a request that is signed with it may come before the command has ended.
        stack.receiver.verify_with(number, &secret);
        stack.run(&["endpoint", "rotate-secret", &id, "--secret", &secret, "--grace", GRACE]).await?;
        stack.run(&["endpoint", "set", &id, "--max-in-flight", &(IN_FLIGHT + part).to_string()]).await?;
    }
    let mut guests = Vec::new();
    for guest in 0..GUESTS {
        let (tenant, url) = (format!("guest-{part}-{guest}"), stack.receiver.url(NUMBER));
        let add = ["endpoint", "add", "--json", "--tenant", &tenant, "--url", &url, "--secret", &secret];
        let added: Value = serde_json::from_str(&stack.run(&add).await?).map_err(|error| error.to_string())?;
        let id = added["id"].as_str().and_then(|id| id.parse().ok()).ok_or("an endpoint without an id")?;
        stack.add_guest(id, NUMBER);
        load::of_guest(running, &tenant, TYPE, EVENTS_OF_GUEST).await;
        guests.push(id);
    }
    Ok(guests)
}

/// Once everything is delivered: what is not is dead with its endpoint.
pub async fn leave(running: &Running, guests: Vec<Uuid>) -> Result<(), String> {
    for id in guests {
        running.stack.run(&["endpoint", "remove", &id.to_string(), "--yes"]).await?;
    }
    Ok(())
}
