//! Turning an endpoint's circuit, and pausing it, as all workers share it.

use std::time::Duration;

use uuid::Uuid;

use super::Context;
use super::coalesce::{Stopping, persist};
use super::gates::Verdict;
use super::ready::Ready;
use crate::domain::backoff::Policy;
use crate::domain::circuit::{self, Turn};
use crate::domain::decision::asked_to_slow_down;
use crate::domain::outcome::Outcome;
use crate::store::{circuits, pauses};

pub fn verdict(outcome: &Outcome, policy: &Policy) -> Verdict {
    Verdict {
        health: circuit::health(outcome, &policy.permanent_status_codes),
        slow_down: asked_to_slow_down(outcome, policy),
        error: outcome.error(),
    }
}

/// Stores the turn, unless another worker has done so, and applies it here at once.
pub async fn turn(context: &Context, endpoint: &Ready, turn: Turn) -> Result<(), Stopping> {
    let id = endpoint.id;
    let cooldown_ms = circuit::cooldown_ms(&context.limits.circuit, endpoint.circuit.trips, rand::random());
    let store = async || match turn {
        Turn::Open => circuits::open(&context.db, id, endpoint.circuit.state, cooldown_ms).await,
        Turn::Close => circuits::close(&context.db, id).await,
        Turn::Heal => circuits::heal(&context.db, id).await,
    };
    if persist(&context.abandon, "turn a circuit", store).await? {
        match turn {
            Turn::Open => {
                tracing::warn!(endpoint_id = %id, cooldown_ms, "the circuit is open: the endpoint keeps failing")
            }
            Turn::Close => tracing::info!(endpoint_id = %id, "the circuit is closed: the endpoint answers again"),
            Turn::Heal => tracing::info!(endpoint_id = %id, "the endpoint has been healthy for a while"),
        }
    }
    context.endpoints.forget(id);
    Ok(())
}

/// Stores that the endpoint asked for time. Where that is not possible now, this worker keeps to it all the same.
pub async fn pause(context: &Context, id: Uuid, length: Duration) -> Result<(), Stopping> {
    let store = async || pauses::pause(&context.db, id, length).await;
    if persist(&context.abandon, "pause an endpoint", store).await? {
        let pause_ms = length.as_millis() as u64;
        tracing::warn!(endpoint_id = %id, pause_ms, "nothing is sent for a while: the endpoint asked so with Retry-After");
    }
    context.endpoints.forget(id);
    Ok(())
}
