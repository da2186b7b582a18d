//! Turning an endpoint's circuit, and pausing it, as all workers share it.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::database::{Stopping, until_answered};
use super::endpoints::EndpointCache;
use super::gates::Feedback;
use super::ready::Ready;
use crate::domain::backoff::Policy;
use crate::domain::circuit::{self, Rules, Turn};
use crate::domain::decision::asked_to_slow_down;
use crate::domain::outcome::Outcome;
use crate::store::{Db, circuits, pauses};

pub fn feedback(outcome: &Outcome, policy: &Policy) -> Feedback {
    Feedback {
        health: circuit::health(outcome, &policy.permanent_status_codes),
        slow_down: asked_to_slow_down(outcome, policy),
        error: outcome.error(),
    }
}

pub struct Circuits {
    pub db: Db,
    pub endpoints: EndpointCache,
    pub rules: Rules,
    pub abandon: CancellationToken,
}

impl Circuits {
    /// Stores the turn, unless another worker has done so, and applies it here at once.
    pub async fn turn(&self, endpoint: &Ready, turn: Turn) -> Result<(), Stopping> {
        let id = endpoint.id;
        let cooldown_ms = circuit::cooldown_ms(&self.rules, endpoint.circuit.trips, rand::random());
        let store = async || match turn {
            Turn::Open => circuits::open(&self.db, id, endpoint.circuit, endpoint.resumed_us, cooldown_ms).await,
            Turn::Close => circuits::close(&self.db, id).await,
            Turn::Heal => circuits::heal(&self.db, id).await,
        };
        if until_answered(&self.abandon, "turn a circuit", store).await? {
            match turn {
                Turn::Open => {
                    tracing::warn!(endpoint_id = %id, cooldown_ms, "the circuit is open: the endpoint keeps failing")
                }
                Turn::Close => tracing::info!(endpoint_id = %id, "the circuit is closed: the endpoint answers again"),
                Turn::Heal => tracing::info!(endpoint_id = %id, "the endpoint has been healthy for a while"),
            }
        }
        self.endpoints.forget(id);
        Ok(())
    }

    /// Stores that the endpoint asked for time. Where that is not possible now, this worker keeps to it all the same.
    pub async fn pause(&self, id: Uuid, length: Duration) -> Result<(), Stopping> {
        let store = async || pauses::pause(&self.db, id, length).await;
        if until_answered(&self.abandon, "pause an endpoint", store).await? {
            let pause_ms = length.as_millis() as u64;
            tracing::warn!(endpoint_id = %id, pause_ms, "nothing is sent for a while: the endpoint asked so with Retry-After");
        }
        self.endpoints.forget(id);
        Ok(())
    }
}
