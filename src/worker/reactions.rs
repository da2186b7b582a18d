//! What follows from the outcome of a request: for its endpoint, and for its delivery.

use std::sync::Arc;

use super::attempt::Attempted;
use super::circuits::{self, Circuits};
use super::database::Stopping;
use super::gates::Permit;
use super::job;
use super::ready::Ready;
use crate::domain::backoff::Policies;
use crate::domain::decision::decide;
use crate::domain::message::Message;
use crate::domain::outcome::Outcome;
use crate::store::settle::Settlement;

pub struct Reactions {
    pub policies: Arc<Policies>,
    pub circuits: Circuits,
}

impl Reactions {
    /// Tells the endpoint's gate and circuit, and decides. What is returned is yet to be recorded.
    pub async fn react(
        &self,
        endpoint: &Ready,
        permit: Permit,
        message: &Message,
        attempted: Attempted,
        outcome: Outcome,
    ) -> Result<Settlement, Stopping> {
        let policy = self.policies.get(endpoint.retry_policy.as_deref());
        let feedback = circuits::feedback(&outcome, policy);
        let reaction = permit.report(feedback, endpoint.circuit, &self.circuits.rules);
        drop(permit);
        if let Some(turn) = reaction.turn {
            Box::pin(self.circuits.turn(endpoint, turn)).await?;
        }
        if let Some(length) = reaction.pause {
            Box::pin(self.circuits.pause(endpoint.id, length)).await?;
        }
        let made = message.attempt - message.base_attempts;
        let decision = decide(&outcome, message.key(), message.attempt, made, policy, self.policies.delays());
        let decision = if reaction.keeps_failing { decision.in_postgres() } else { decision };
        let budget = endpoint.budget.in_force(&self.policies, endpoint.retry_policy.as_deref());
        Ok(job::settlement(message, attempted, outcome, decision, budget))
    }
}
