//! Whether a message's endpoint is sent to now: its state, its gate, and a seat for the request.

use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use super::consumed::Consumed;
use super::disabling::Disabling;
use super::endpoints::EndpointCache;
use super::gates::{Entrance, Gates, Permit};
use super::queue_share::QueueShare;
use super::ready::Ready;
use super::refused::{NotMade, Refused};
use super::replicas::{self, Replicas};
use super::rooms::{Full, Taken};
use crate::domain::circuit::State;
use crate::domain::gate::{Until, Why, busy};
use crate::domain::rooms::Room;
use crate::telemetry::names::HeldReason;

pub struct Gatekeeper {
    pub endpoints: EndpointCache,
    pub disabling: Disabling,
    pub gates: Gates,
    pub replicas: Arc<Replicas>,
    /// Of an endpoint that sets no limit of its own.
    pub max_in_flight: usize,
}

impl Gatekeeper {
    /// The endpoint, if it may be sent to.
    pub async fn endpoint(&self, id: Uuid) -> Result<Arc<Ready>, NotMade> {
        let endpoint = self.endpoints.get(id).await?.ok_or(Refused::EndpointRemoved)?;
        // The relay lets nothing go before the circuit is half open, or the pause over, whatever the row's time says.
        let reason = if !endpoint.enabled {
            HeldReason::Disabled
        } else if let Some(why) = &endpoint.refused {
            self.disabling.refuse(&endpoint, why);
            return Err(Refused::Url.into());
        } else if endpoint.circuit.state == State::Open {
            HeldReason::Circuit
        } else if endpoint.is_paused() {
            HeldReason::Slowed
        } else {
            return Ok(endpoint);
        };
        Err(Refused::Held { until: Until::Now, reason }.into())
    }

    /// Waits at the endpoint's gate, as long as that is reasonable.
    pub async fn pass(&self, endpoint: &Ready, share: &QueueShare) -> Result<Permit, Refused> {
        let limits = replicas::limits(self.replicas.get(), self.max_in_flight, endpoint, share);
        match self.gates.enter(endpoint, limits, share.arrival()).await {
            Entrance::Granted(permit) => Ok(permit),
            Entrance::Held { until, why } => Err(Refused::Held { until, reason: reason(endpoint, why) }),
        }
    }
}

/// A seat for a request, in what is left of the time that it may wait. Where the slow room is full, a new one for a slow or
/// unknown endpoint does not wait: PostgreSQL sorts better what waits for long.
pub async fn take_seat(
    consumed: &Consumed,
    endpoint: &Ready,
    room: Room,
    waits_since: Instant,
) -> Result<Taken, Refused> {
    let share = &consumed.share;
    let patience = share.arrival().patience().saturating_sub(waits_since.elapsed());
    let taken = share.rooms.enter(&consumed.message.tenant, room, !share.is_first(), patience).await;
    taken.map_err(|Full| Refused::Held { until: busy(share.arrival()), reason: reason(endpoint, Why::InFlight) })
}

fn reason(endpoint: &Ready, why: Why) -> HeldReason {
    match why {
        Why::InFlight if endpoint.circuit.state == State::HalfOpen => HeldReason::Circuit,
        Why::InFlight => HeldReason::Busy,
        Why::Rate => HeldReason::RateLimit,
        Why::Slowed => HeldReason::Slowed,
    }
}
