//! Why no request is made for a message now. Whoever finds it out says so with a value; `Ending` carries it out.

use std::time::Duration;

use super::database::Stopping;
use crate::domain::dead_reason::DeadReason;
use crate::domain::gate::Until;
use crate::telemetry::names::HeldReason;

#[derive(Debug, Clone, Copy)]
pub enum Refused {
    /// Its endpoint must wait, or there is no room for it.
    Held {
        until: Until,
        reason: HeldReason,
    },
    /// It may have killed workers, and cannot be tried before this time is over.
    Suspect {
        rest: Duration,
    },
    /// Something of ours has failed.
    OurFault,
    EndpointRemoved,
    /// Its endpoint's URL is not allowed. The endpoint is disabled, as one that answered 410 is: nothing is sent, no attempt
    /// is spent, and somebody has to give it another URL and enable it.
    Url,
    /// It has killed its workers, or what ran in them, again and again.
    Poison(&'static str),
}

impl Refused {
    /// What becomes of the delivery, and why.
    pub fn names(self) -> (&'static str, &'static str) {
        match self {
            Refused::Held { reason, .. } => ("held", reason.as_str()),
            Refused::Suspect { .. } | Refused::OurFault => ("held", HeldReason::OurFault.as_str()),
            Refused::Url => ("held", HeldReason::Disabled.as_str()),
            Refused::EndpointRemoved => ("dead", DeadReason::EndpointRemoved.as_str()),
            Refused::Poison(_) => ("dead", DeadReason::Poison.as_str()),
        }
    }
}

/// What keeps a message from becoming an attempt.
#[derive(Debug)]
pub enum NotMade {
    Refused(Refused),
    /// It does not carry its payload, and its event is not there.
    NoPayload,
    /// It stays unacknowledged, and another worker gets it.
    Stopping,
}

impl From<Refused> for NotMade {
    fn from(refused: Refused) -> NotMade {
        NotMade::Refused(refused)
    }
}

impl From<Stopping> for NotMade {
    fn from(_: Stopping) -> NotMade {
        NotMade::Stopping
    }
}
